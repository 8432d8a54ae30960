"""What a reply took and how it failed, in the words of the wire contract."""

from decimal import Decimal
from typing import Any, Protocol

from sessions_api.models import Message
from web.errors import ApiError, error_object


class ReplyCounts(Protocol):
    """What has a reply's counts: a stored message, or the outcome of a turn."""

    @property
    def prompt_tokens(self) -> int | None: ...
    @property
    def completion_tokens(self) -> int | None: ...
    @property
    def cached_tokens(self) -> int | None: ...
    @property
    def reasoning_tokens(self) -> int | None: ...
    @property
    def usage_estimated(self) -> bool: ...
    @property
    def cost(self) -> Decimal | None: ...


class FailedReply(Protocol):
    """What an error says of a reply: a stored message's, or the outcome's of a turn."""

    @property
    def finish_reason(self) -> str: ...
    @property
    def may_have_been_billed(self) -> bool: ...


def usage_of(counted: ReplyCounts) -> dict[str, Any]:
    """Tokens, and `cost` in USD (null: the provider names none); `estimated` where nobody counted."""
    prompt, completion = counted.prompt_tokens or 0, counted.completion_tokens or 0
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": None if counted.cost is None else float(counted.cost),
        "cached_tokens": counted.cached_tokens or 0,
        "reasoning_tokens": counted.reasoning_tokens or 0,
    }
    if counted.usage_estimated:
        usage["estimated"] = True
    return usage


def stored_error(reply: Message) -> dict[str, Any] | None:
    """The error that a stored reply ended with, in the language that is active."""
    if not reply.error_code:
        return None
    return error_object(turn_error(reply, reply.error_code, reply.turn_id))


def turn_error(reply: FailedReply, code: str, turn_id: str, retry_after: float | None = None) -> ApiError:
    """The error of a failed turn, for whoever asks for it, at once or later."""
    spent = code == "provider_invalid_response" and reply.finish_reason == "length"
    return ApiError(
        code,
        detail_code="max_tokens_spent" if spent else "",
        retry_after=retry_after,
        turn_id=turn_id,
        may_have_been_billed=reply.may_have_been_billed,
    )
