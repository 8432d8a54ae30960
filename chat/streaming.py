"""A turn as server-sent events. Each frame is written whole."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from django.utils import translation

from chat.engine.following import FollowedTurn
from chat.engine.listener import Listener
from web.errors import ApiError, error_object

KEEP_ALIVE = b": keep-alive\n\n"
_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each frame


def frame(event: str, data: dict[str, Any], offset: int | None = None) -> bytes:
    """One event; `offset` becomes its id."""
    number = "" if offset is None else f"id: {offset}\n"
    return f"event: {event}\n{number}data: {_encode(data)}\n\n".encode()


async def events(
    listener: Listener, answer: Callable[[FollowedTurn], dict[str, Any]], language: str, offset: int = 0
) -> AsyncGenerator[bytes]:
    """start, the deltas from character `offset` on, and done or error. In silence, a comment now and then."""
    turn = listener.turn
    yield frame("start", {"turn_id": turn.turn_id, "session_id": turn.session_id, "model": turn.model})
    try:
        async with aclosing(listener.pieces(offset)) as pieces:
            async for piece in pieces:
                offset += len(piece)
                yield frame("delta", {"text": piece}, offset) if piece else KEEP_ALIVE
        error = turn.error
    except ApiError as refusal:  # the listener's key was revoked
        error = refusal
    with translation.override(language):
        if error is None:
            yield frame("done", answer(turn), len(turn.text))
        elif error.code != "overloaded":
            yield frame("error", error_object(error))
        # Otherwise this process stops. The client comes back, as after any broken stream, and finds the turn elsewhere.
