"""Turns all failures of a provider into one kind of error. It holds numbers and names, never the provider's words."""

import asyncio
import errno
import logging
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx

from chat.providers.base import ProviderError

from .bodies import Heard, hear, is_error, parsed
from .names import WEAK_NAMES
from .parameters import Refused, refused
from .waits import parse_retry_after, wait_of
from .words import is_quota_of_a_minute, meant, named, without_addresses

__all__ = [
    "TRANSPORT_ERRORS",
    "NotAcceptedError",
    "from_body",
    "from_status",
    "from_transport",
    "invalid_response",
    "parse_retry_after",
]

logger = logging.getLogger(__name__)

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError)

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
STATUSES = {code: status for status, code in reversed(CODES.items())} | {"provider_unavailable": 503}
# With one of these, an HTML page comes from a server in between. With other numbers it does not matter who answered.
PROVIDERS_OWN = {400, 403, 404, 413, 422}
NOT_ACCEPTED = {429, 503}
NOT_BILLED = {503, 529}
RETRYABLE = {"provider_rate_limited", "provider_unavailable", "provider_timeout", "provider_error"}
NAMES_A_MODEL = re.compile(r"model|deployment|模型", re.IGNORECASE)
# What may be said beside a parameter that would have to be smaller, and can't be put right by that.
OUTRANKING = {"context_length_exceeded", "provider_payment_required", "provider_auth_failed", "content_moderated"}
AZURE_FILTER = {"responsibleaipolicyviolation"}
PROXY_ASKS = 407  # for a user and a password; no provider does


class NotAcceptedError(ProviderError):
    """The provider did not accept the request, so it may be sent again."""


def from_status(status: int, body: bytes, headers: Mapping[str, str]) -> ProviderError:
    """The error that a status other than 2xx means."""
    if status == PROXY_ASKS:
        return _from_proxy(status)
    if "html" in headers.get("content-type", "") and status in PROVIDERS_OWN:
        if status == 404:
            _warn_of_base_url()
        return ProviderError("provider_error", f"HTTP {status} with an HTML page")
    said = parsed(body)
    refusal, detail = refused(status, said), f"HTTP {status}"
    if refusal.names:
        status = 400  # some servers call it a failure of their own where a template refuses the messages
    billed = status == 408 or (status >= 500 and status not in NOT_BILLED)
    found = _error(status, hear(said), detail, billed, headers, refusal)
    if found.code == "invalid_request":
        found.parameters, found.refused_for = refusal
        found.detail += "".join(f", refused: {name}" for name in refusal.names)
    return found


def from_body(body: Any) -> ProviderError | None:
    """The error inside a 200, as the whole answer or in mid-stream; `None` where there is none."""
    if not is_error(body):
        return None
    return _error(0, hear(body), "an error within HTTP 200", True, {})


def from_transport(exc: Exception, *, answering: bool = False) -> ProviderError:
    """The error that a failure of the connection means. `answering`: a 200 had begun.

    The transport reports a reset as a connect time-out, so only its cause tells what had been sent.
    """
    cause = exc.__cause__ if isinstance(exc, httpx.HTTPError) and exc.__cause__ else exc
    detail = type(cause).__name__
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return ProviderError("provider_unreachable", f"{detail}: the certificate is not trusted", connected=False)
    if isinstance(cause, aiohttp.ClientSSLError):
        return ProviderError("provider_unreachable", f"{detail}: TLS failed", connected=False)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return _from_proxy(cause.status)
    if isinstance(cause, aiohttp.ClientProxyConnectionError):
        detail += ": no way through the proxy"
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return NotAcceptedError("provider_timeout", detail, retryable=True, connected=False)
    if isinstance(cause, aiohttp.ClientConnectorError):
        return NotAcceptedError("provider_unreachable", detail, retryable=True, connected=False)
    if isinstance(cause, asyncio.TimeoutError) or getattr(cause, "errno", None) == errno.ETIMEDOUT:
        code = "provider_timeout"
    elif answering or isinstance(cause, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        code = "provider_invalid_response"
    else:
        code = "provider_unreachable"
    return ProviderError(code, detail, retryable=True, may_have_been_billed=True)


def _from_proxy(status: int) -> ProviderError:
    """The proxy's refusal: nothing has reached the provider. What it forbids now, it forbids in a second too."""
    kind = NotAcceptedError if status >= 500 else ProviderError
    detail = f"HTTP {status} from the proxy"
    return kind("provider_unreachable", detail, retryable=status >= 500, connected=False)


def invalid_response(detail: str) -> ProviderError:
    """The error for an answer that is not understood, or has no end."""
    return ProviderError("provider_invalid_response", detail, retryable=True, may_have_been_billed=True)


def _error(
    status: int,
    heard: Heard,
    detail: str,
    billed: bool,
    headers: Mapping[str, str],
    refusal: Refused = Refused(),  # noqa: B008 - a tuple, so it cannot change
) -> ProviderError:
    code = _code(status, heard, names_parameters=bool(refusal.names))
    # Within a 200, the error's own number tells; where it has none, its meaning.
    status = status or heard.status or STATUSES.get(code, 0)
    if code == "content_moderated" and not AZURE_FILTER.isdisjoint(heard.names):
        billed = True  # Azure charges for the prompt that its filter has read
    retryable = code in RETRYABLE and (status >= 500 or status in (408, 429))
    is_refusal = status in NOT_ACCEPTED and not billed and retryable
    kind = NotAcceptedError if is_refusal else ProviderError
    wait = wait_of(headers, heard, is_limit=status == 429) if retryable else None
    detail += "".join(f", {label}" for label in heard.labels)
    if status == 404 and code == "provider_error":
        _warn_of_base_url()
    return kind(code, detail, retryable=retryable, retry_after=wait, may_have_been_billed=billed)


def _code(status: int, heard: Heard, *, names_parameters: bool) -> str:
    """What went wrong, by names, words and status together."""
    if heard.has_reasons and status in (0, 400, 403):
        return "content_moderated"
    name = named(heard)
    if name == "provider_payment_required" and is_quota_of_a_minute(heard):
        return "provider_rate_limited"
    words = name or meant(heard, status or heard.status)
    if names_parameters and not name and words not in OUTRANKING:
        return "invalid_request"  # whatever else is said of the model that refuses them
    if words:
        return words
    code = CODES.get(status or heard.status) or named(heard, WEAK_NAMES) or "provider_error"
    if code == "unsupported_model" and not NAMES_A_MODEL.search(without_addresses(heard.words)):
        return "provider_error"
    return code


def _warn_of_base_url() -> None:
    logger.warning("the provider knows no such address (404): the base URL is probably wrong")
