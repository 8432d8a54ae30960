"""Turns all failures of a provider into one kind of error. It holds numbers and names, never the provider's words."""

import asyncio
import errno
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import httpx

from chat.providers.base import ProviderError

from .parameters import refused

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError)
MAX_RETRY_AFTER = 24 * 3600.0  # seconds

CODES = {
    400: "invalid_request",
    401: "provider_auth_failed",
    402: "provider_payment_required",
    403: "permission_denied",
    404: "unsupported_model",
    408: "provider_timeout",
    413: "invalid_request",
    422: "invalid_request",
    429: "provider_rate_limited",
    503: "provider_unavailable",
    524: "provider_timeout",
    529: "provider_unavailable",
}
NAMED_STATUS = {  # some servers send a name in place of the number
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "insufficient_quota": 402,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "service_unavailable": 503,
    "timeout": 408,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
}
CONTEXT_NAMES = {"context_length_exceeded", "exceed_context_size_error"}
CONTEXT_WORDS = re.compile(
    r"context[ _-]?(length|window|size)|(prompt|input) is too long|too many (input )?tokens", re.IGNORECASE
)
# With one of these, an HTML page comes from a server in between. With other numbers it does not matter who answered.
PROVIDERS_OWN = {400, 403, 404, 413, 422}
NOT_ACCEPTED = {429, 503}
NOT_BILLED = {503, 529}
NAME = re.compile(r"[A-Za-z][A-Za-z_.]{0,63}")  # no digits or hyphens, so that no key passes for a name


class NotAcceptedError(ProviderError):
    """The provider did not accept the request, so it may be sent again."""


def from_status(status: int, body: bytes, headers: Mapping[str, str]) -> ProviderError:
    """The error that a status other than 200 means."""
    if "html" in headers.get("content-type", "") and status in PROVIDERS_OWN:
        return ProviderError("provider_error", f"HTTP {status} with an HTML page")
    parsed = _parse(body)
    error = _error_object(parsed)
    detail = f"HTTP {status}{_names(error) if error else ''}"
    found = _error(status, error, detail, _billed(status), parse_retry_after(headers.get("retry-after")))
    if found.code == "invalid_request":
        found.parameters, found.refused_for = refused(status, parsed or body.decode("utf-8", "replace"))
        found.detail += "".join(f", refused: {name}" for name in found.parameters)
    return found


def from_body(body: Mapping[str, Any]) -> ProviderError | None:
    """The error inside a 200, as the whole answer or in mid-stream; `None` where there is none."""
    error = _error_object(body)
    if error is None:
        return None
    status = _status_of(error)
    return _error(status, error, f"an error within HTTP 200{_names(error)}", True, None)


def from_transport(exc: Exception, *, answering: bool = False) -> ProviderError:
    """The error that a failure of the connection means. `answering`: a 200 had begun.

    The transport reports a reset as a connect time-out, so only its cause tells what had been sent.
    """
    cause = exc.__cause__ if isinstance(exc, httpx.HTTPError) and exc.__cause__ else exc
    detail = type(cause).__name__
    if isinstance(cause, aiohttp.ClientSSLError):
        return ProviderError("provider_unreachable", detail, connected=False)
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return NotAcceptedError("provider_timeout", detail, retryable=True, connected=False)
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return NotAcceptedError("provider_unreachable", detail, retryable=True, connected=False)
    if isinstance(cause, asyncio.TimeoutError) or getattr(cause, "errno", None) == errno.ETIMEDOUT:
        code = "provider_timeout"
    elif answering or isinstance(cause, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        code = "provider_invalid_response"
    else:
        code = "provider_unreachable"
    return ProviderError(code, detail, retryable=True, may_have_been_billed=True)


def invalid_response(detail: str) -> ProviderError:
    """The error for an answer that is not understood, or has no end."""
    return ProviderError("provider_invalid_response", detail, retryable=True, may_have_been_billed=True)


def parse_retry_after(value: object) -> float | None:
    """The seconds to wait, from a number or an HTTP date; `None` where it is neither."""
    try:
        seconds = float(str(value))
    except ValueError:
        try:
            moment = parsedate_to_datetime(str(value))
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:  # "-0000": a time in UTC, says RFC 5322
            moment = moment.replace(tzinfo=UTC)
        seconds = max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return min(seconds, MAX_RETRY_AFTER) if seconds >= 0 else None


def _error(
    status: int, error: Mapping[str, Any] | None, detail: str, billed: bool, retry_after: float | None
) -> ProviderError:
    code = CODES.get(status, "provider_error")
    if error and code in ("invalid_request", "provider_error") and _is_context_overflow(status, error):
        code = "context_length_exceeded"
    if error and status == 403 and _metadata(error).get("reasons"):
        code = "content_moderated"
    if error and retry_after is None:
        availability = error.get("availability")
        retry_after = parse_retry_after(availability.get("retry_after")) if isinstance(availability, dict) else None
    kind = NotAcceptedError if status in NOT_ACCEPTED and not billed else ProviderError
    retryable = code.startswith("provider_") and status not in (401, 402) and (status >= 500 or status in (408, 429))
    return kind(code, detail, retryable=retryable, retry_after=retry_after, may_have_been_billed=billed)


def _billed(status: int) -> bool:
    return status in (200, 408) or (status >= 500 and status not in NOT_BILLED)


def _is_context_overflow(status: int, error: Mapping[str, Any]) -> bool:
    if CONTEXT_NAMES & {str(error.get("code")), str(error.get("type"))}:
        return True
    words = f"{error.get('message')} {_metadata(error).get('raw')}"
    return status < 500 and CONTEXT_WORDS.search(words) is not None


def _metadata(error: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = error.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _error_object(body: Any) -> Mapping[str, Any] | None:
    """The error in `body`: nested (nearly everyone), flat (vLLM), or a bare string (Ollama)."""
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {"message": str(error)}
    return body if body.get("object") == "error" else None


def _status_of(error: Mapping[str, Any]) -> int:
    """The HTTP status that an error object names by number or by word; 0 where it does neither."""
    code = error.get("code")
    if str(code).isdecimal() and len(str(code)) == 3:
        return int(str(code))
    return NAMED_STATUS.get(str(code)) or NAMED_STATUS.get(str(error.get("type"))) or 0


def _names(error: Mapping[str, Any]) -> str:
    found = [str(value) for value in (error.get("type"), error.get("code")) if value is not None]
    return "".join(f", {name}" for name in found if NAME.fullmatch(name) or (name.isdecimal() and len(name) <= 5))
