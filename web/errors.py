"""All error codes with what is known of them, and the one place that turns exceptions into answers."""

import logging
import math
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import Error as DatabaseProblem
from django.http import Http404, HttpRequest, JsonResponse
from django.utils import translation
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

from web.connections import renew_after
from web.logs import request_id

logger = logging.getLogger(__name__)


class ErrorCode(NamedTuple):
    """All that is known of an error code, whatever raises it."""

    status: int
    sentence: Any  # what happened, in a person's words
    retry_after: int | None = None  # seconds to wait, as a rule; None: waiting does not help
    stored: bool = False  # the question is stored where a turn ends so, and the error names the turn
    billed: bool = False  # the provider may charge for such a turn


# The machine-readable codes of the wire contract.
CODES: dict[str, ErrorCode] = {
    "invalid_request": ErrorCode(400, _("The request is not valid.")),
    "context_length_exceeded": ErrorCode(400, _("The conversation does not fit the model's context."), stored=True),
    "unsupported_model": ErrorCode(400, _("The provider does not offer this model."), stored=True),
    "not_authenticated": ErrorCode(401, _("Send your key as “Authorization: Bearer …”.")),
    "invalid_api_key": ErrorCode(401, _("This BancoBot key is not valid.")),
    "provider_auth_failed": ErrorCode(401, _("The provider refused the key."), stored=True),
    "provider_payment_required": ErrorCode(402, _("The provider account has no credit left."), stored=True),
    "budget_exhausted": ErrorCode(402, _("The budget has been used up."), retry_after=3600),
    "permission_denied": ErrorCode(403, _("This is not allowed."), stored=True),
    "content_moderated": ErrorCode(403, _("The provider's moderation refused the content."), stored=True),
    "not_found": ErrorCode(404, _("There is nothing at this address.")),
    "session_not_found": ErrorCode(404, _("Session not found.")),
    "turn_not_found": ErrorCode(404, _("Turn not found.")),
    "message_not_found": ErrorCode(404, _("Message not found.")),
    "method_not_allowed": ErrorCode(405, _("This method is not allowed here.")),
    "not_acceptable": ErrorCode(406, _("The answer is not available in the format asked for.")),
    "session_exists": ErrorCode(409, _("There is an open session with this id already.")),
    "session_busy": ErrorCode(409, _("The session is still answering another message."), retry_after=1),
    "request_too_large": ErrorCode(413, _("The request is too large.")),
    "unsupported_media_type": ErrorCode(415, _("Send the request body as JSON in UTF-8.")),
    "idempotency_mismatch": ErrorCode(422, _("This Idempotency-Key was used with another request.")),
    "rate_limited": ErrorCode(429, _("Too many requests."), retry_after=12),
    "provider_rate_limited": ErrorCode(
        429, _("The provider is receiving too many requests."), retry_after=20, stored=True
    ),
    "internal_error": ErrorCode(500, _("Something went wrong here. The error has been recorded.")),
    "provider_error": ErrorCode(502, _("The provider failed."), stored=True, billed=True),
    "provider_invalid_response": ErrorCode(
        502, _("The provider's answer could not be understood."), stored=True, billed=True
    ),
    "provider_unreachable": ErrorCode(502, _("The provider could not be reached."), stored=True),
    "turn_interrupted": ErrorCode(502, _("The server stopped while it was answering."), stored=True, billed=True),
    "provider_unavailable": ErrorCode(
        503, _("The provider is not available at the moment."), retry_after=5, stored=True
    ),
    "database_unavailable": ErrorCode(503, _("The database is not available at the moment."), retry_after=1),
    "overloaded": ErrorCode(503, _("The server is too busy at the moment."), retry_after=1),
    "provider_timeout": ErrorCode(504, _("The provider took too long to answer."), stored=True, billed=True),
}
SENTENCES = {  # where one code covers cases that a person would tell apart
    "malformed_key": _("A key consists of visible ASCII characters."),
    "malformed_json": _("The request body is not valid JSON."),
    "unstorable_text": _("Text must not contain NUL characters or lone surrogates."),
    "deep_json": _("The JSON is nested too deeply."),
    "other_keys": _("This server accepts BancoBot keys (bb_…) only."),
    "no_own_keys": _("This server accepts the provider's keys only, and none of BancoBot."),
    "missing_scope": _("This key may not do that."),
    "requests_per_minute": _("Too many requests in a minute."),
    "waiting": _("Too many of your requests are waiting to be answered."),
    "turns_in_flight": _("Too many messages are being answered at once."),
    "tokens_per_day": _("Too few tokens are left for today: this message and a reply of max_tokens need more."),
    "cost_per_month": _("Too little is left of this month's budget: this message and a reply of max_tokens cost more."),
    "sessions": _("You have as many sessions as you may have. Closed ones count until they are erased."),
    "stored_mb": _("You have stored as much text as you may. What you erase makes room; what you close does later."),
    "forks_at_once": _("Another session is being copied for you."),
    "forked_mb_per_minute": _("You have copied as much as you may in a minute."),
    "large_json": _("The JSON has too many values."),
    "max_tokens_spent": _("The model used up max_tokens before it wrote any text. Allow more max_tokens."),
    "slow_body": _("The request took too long to arrive."),
    "foreign_page": _("This server does not answer pages of this origin (CORS_ALLOWED_ORIGINS)."),
    "stale_form": _("The form is no longer valid, or not from a page of this service. Load the page again."),
    "unknown_host": _("This server does not answer under this host name (ALLOWED_HOSTS)."),
}
BY_STATUS = {405: "method_not_allowed", 406: "not_acceptable", 413: "request_too_large"}
BY_STATUS |= {401: "not_authenticated", 403: "permission_denied", 404: "not_found", 415: "unsupported_media_type"}


class ApiError(exceptions.APIException):
    """An error of the wire contract; `extra` goes into the error object beside the rest.

    `headers` are the answer's, beside those that every such error has.
    """

    def __init__(
        self,
        code: str,
        *,
        detail_code: str = "",
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.code = code
        self.headers = headers or {}
        self.status_code = CODES[code].status
        self.sentence = SENTENCES.get(detail_code, CODES[code].sentence)
        super().__init__(self.sentence, code)
        self.retry_after = retry_after
        self.extra = extra


def error_object(error: ApiError) -> dict[str, Any]:
    """The body that an error is answered with, in the language that is active."""
    body = {"detail": str(error.sentence), "code": error.code, "request_id": request_id.get(), **error.extra}
    if error.retry_after is not None:
        body["retry_after"] = math.ceil(error.retry_after)
    return body


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook: whatever a view raises leaves in the shape of the wire contract."""
    error = as_api_error(exc)
    with in_language_of(context["request"]):
        return Response(error_object(error), error.status_code, headers=headers_of(error))


def as_api_error(exc: Exception) -> ApiError:
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, exceptions.ValidationError):
        return ApiError("invalid_request", errors=_by_field(exc.detail))
    if isinstance(exc, SuspiciousOperation):
        return ApiError("invalid_request")
    if isinstance(exc, Http404):
        return ApiError("not_found")
    if isinstance(exc, PermissionDenied):
        return ApiError("permission_denied")
    if isinstance(exc, exceptions.APIException):
        return ApiError(BY_STATUS.get(exc.status_code, "invalid_request"))
    record(exc)
    return (
        ApiError("database_unavailable", retry_after=1)
        if isinstance(exc, DatabaseProblem)
        else ApiError("internal_error")
    )


def record(exc: BaseException) -> None:
    """Log where an unexpected exception came from, but not its message, which may quote what people wrote."""
    renew_after(exc)
    chain = [exc, *filter(None, [exc.__cause__])]
    frames = [line for part in chain for line in (type(part).__name__, *traceback.format_tb(part.__traceback__))]
    logger.error("unexpected %s", type(exc).__name__, extra={"traceback": "\n".join(frames)})


def language_of(request: Any) -> str:
    """What the client asks for with Accept-Language, else Portuguese."""
    asked = "HTTP_ACCEPT_LANGUAGE" in request.META
    return translation.get_language_from_request(request) if asked else settings.LANGUAGE_CODE


def in_language_of(request: Any) -> AbstractContextManager[None]:
    """A context in which texts are in the client's language."""
    asked = "HTTP_ACCEPT_LANGUAGE" in request.META  # else Django speaks settings.LANGUAGE_CODE anyway
    return translation.override(language_of(request)) if asked else nullcontext()


def headers_of(error: ApiError) -> dict[str, str]:
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _by_field(detail: Any) -> dict[str, list[str]]:
    if not isinstance(detail, dict):
        return {"non_field_errors": [str(part) for part in detail]}
    return {field: [str(part) for part in _flat(problems)] for field, problems in detail.items()}


def _flat(problems: Any) -> list[Any]:
    if isinstance(problems, dict):
        return [text for nested in problems.values() for text in _flat(nested)]
    return [text for nested in problems for text in _flat(nested)] if isinstance(problems, list) else [problems]


def json_error(request: HttpRequest, error: ApiError) -> JsonResponse:
    """The answer outside of DRF's views."""
    with in_language_of(request):
        return JsonResponse(error_object(error), status=error.status_code, headers=headers_of(error))


@csrf_exempt
def page_not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    return json_error(request, ApiError("not_found"))


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return json_error(request, ApiError("invalid_request"))


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return json_error(request, ApiError("permission_denied"))


def server_error(request: HttpRequest) -> JsonResponse:
    """What nobody else has caught (Django calls this inside its `except`)."""
    problem = sys.exc_info()[1]
    error = as_api_error(problem) if isinstance(problem, Exception) else ApiError("internal_error")
    return json_error(request, error)
