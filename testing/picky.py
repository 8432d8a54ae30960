"""Scenarios of providers that refuse a history: for its form, or for its length."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from testing.exchange import Exchange
from testing.scenarios import Scenario, echo, status

Message = dict[str, Any]
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\u3164\ufe0f\ufeff"


def fault_in(messages: Sequence[Message]) -> str:
    """What the strictest providers would say against a history; empty where nothing is wrong with it."""
    spoken = [message for message in messages if message["role"] != "system"]
    roles = [message["role"] for message in spoken]
    if any(message["role"] == "system" for message in messages[1:]):
        return "a system message must be the first one"
    if not set(roles) <= {"user", "assistant"}:
        return "tool messages must follow their calls"
    if roles[:1] != ["user"] or roles[-1:] != ["user"]:
        return "the first and the last message must be the user's"
    if any(one == next_one for one, next_one in itertools.pairwise(roles)):
        return "roles must alternate"
    if not all(isinstance(message["content"], str) and _has_text(message["content"]) for message in messages):
        return "text content blocks must contain non-whitespace text"
    return ""


def _has_text(text: str) -> bool:
    return any(not letter.isspace() and letter not in INVISIBLE for letter in text)


def strict(then: Scenario | None = None, *, forbidden: str = "") -> Scenario:
    """Answers with `then` if the form of the history is right, and no message contains what a filter forbids."""
    answer = then or echo()

    async def play(exchange: Exchange) -> None:
        messages = exchange.request.messages
        fault = fault_in(messages)
        if fault:
            await status(400, {"error": {"type": "invalid_request_error", "message": fault}})(exchange)
        elif forbidden and any(forbidden in message["content"] for message in messages):
            reasons = {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"]}}
            await status(403, {"error": reasons})(exchange)
        else:
            await answer(exchange)

    return play


def limited(
    context: int, then: Scenario | None = None, *, count: Callable[[str], int] = len, refusal: Scenario | None = None
) -> Scenario:
    """Refuses what does not fit its context with the reply that was asked for, as `count` counts tokens."""
    answer = then or echo()
    error = {"code": "context_length_exceeded", "message": "the provider's own words"}
    refuse = refusal or status(400, {"error": error})

    async def play(exchange: Exchange) -> None:
        asked = exchange.request.body
        needed = sum(count(message["content"]) for message in asked["messages"]) + asked["max_tokens"]
        await (refuse if needed > context else answer)(exchange)

    return play
