"""What a finish reason means. All names that are known of providers are here; any other one completes the reply."""

import re
from functools import lru_cache

from chat.providers.base import ProviderError

# Placeholders: the reply goes on.
NONE = {"", "null", "none", "nil", "undefined", "unspecified", "finish_reason_unspecified", "not_finished"}
# The model has written as much as it may.
LENGTH = {
    "length",
    "max_tokens",
    "max_length",
    "max_output_tokens",
    "max_completion_tokens",
    "max_new_tokens",
    "model_length",
    "token_limit",
    "model_context_window_exceeded",
    "limit",
}
# A filter stopped it. What came before is a reply; without text there is none.
FILTERED = {
    "blocked",
    "model_armor",
    "moderated",
    "content_moderated",
    "content_moderation",
    "content_filter",
    "content_filtered",
    "sensitive",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "image_safety",
    "guardrail_intervened",
    "refusal",
    "flagged",
    "moderation",
    "error_toxic",
    "risk_control",
}
TOOLS = {"tool_calls", "function_call", "tool_use", "tool_call"}
# The reply broke off. The text stays, and the turn fails with this code.
BROKEN = {
    "error": "provider_error",
    "insufficient_system_resource": "provider_unavailable",  # DeepSeek
    "overloaded": "provider_unavailable",
    "engine_overloaded": "provider_unavailable",
    "network_error": "provider_error",  # Zhipu
    "abort": "provider_error",  # vLLM, SGLang: the server stopped the request
    "aborted": "provider_error",
    "cancelled": "provider_error",
    "canceled": "provider_error",
    "interrupted": "provider_error",
    "incomplete": "provider_error",
    "failed": "provider_error",
    "failure": "provider_error",
    "exception": "provider_error",
    "server_error": "provider_error",
    "internal_error": "provider_error",
    "model_error": "provider_error",
    "error_limit": "provider_error",
    "malformed_function_call": "provider_error",  # Gemini
    "malformed_response": "provider_error",
    "timeout": "provider_timeout",
    "time_limit": "provider_timeout",
    "timed_out": "provider_timeout",
    "deadline_exceeded": "provider_timeout",
}
STORABLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,49}")


@lru_cache(maxsize=256)
def reason_of(value: object) -> str | None:
    """A finish reason as it is kept; `None` where the reply goes on. Raises `TypeError` for what is no text."""
    if value is None or value is False:
        return None
    if not isinstance(value, str):
        raise TypeError("finish_reason")
    reason = value.strip()
    if reason.casefold() in NONE:
        return None
    return reason if STORABLE.fullmatch(reason) else "other"


def failure_of(reason: str) -> ProviderError | None:
    """The error that a broken reply ends with."""
    code = BROKEN.get(reason.casefold())
    if code is None:
        return None
    return ProviderError(code, f"finish_reason {reason}", retryable=True, may_have_been_billed=True)


def is_filter(reason: str) -> bool:
    """Whether a filter ended the reply."""
    return reason.casefold().replace("-", "_") in FILTERED


def empty_of(reason: str) -> ProviderError:
    """The error of a reply that ended with this reason, but has no text and calls no tool."""
    name = reason.casefold()
    if is_filter(reason):
        return ProviderError("content_moderated", f"finish_reason {reason} without text", may_have_been_billed=True)
    return ProviderError(
        "provider_invalid_response",
        f"a reply without content, finish_reason {reason}",
        retryable=name not in LENGTH,
        may_have_been_billed=True,
        finish_reason="length" if name in LENGTH else None,
    )
