"""A turn as server-sent events. Each frame is written whole."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from django.utils import translation

from access.keyring import keyring
from chat.engine.following import FollowedTurn
from web.errors import ApiError, error_object

KEEP_ALIVE = b": keep-alive\n\n"
_quoted = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for every piece

SILENCE_SECONDS = 10.0  # the answer begins then, even if nothing has come


def frame(event: str, data: dict[str, Any], offset: int | None = None) -> bytes:
    """One event; `offset` becomes its id."""
    number = "" if offset is None else f"id: {offset}\n"
    return f"event: {event}\n{number}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def first_sign(turn: FollowedTurn, key_id: str = "") -> None:
    """Wait until there is text, or the end, or enough of silence; raises `ApiError` where the key is revoked."""
    with keyring.watching(key_id), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SILENCE_SECONDS):
            while not turn.text and not turn.ended and keyring.allows(key_id):
                await turn.changed()
    keyring.refuse_lost(key_id)


async def events(
    turn: FollowedTurn,
    answer: Callable[[FollowedTurn], dict[str, Any]],
    language: str,
    offset: int = 0,
    key_id: str = "",
) -> AsyncGenerator[bytes]:
    """start, the deltas from character `offset` on, and done or error; a comment now and then in silence.

    It ends when the caller's key is revoked; the turn goes on.
    """
    yield frame("start", {"turn_id": turn.turn_id, "session_id": turn.session_id, "model": turn.model})
    with keyring.watching(key_id):
        while keyring.allows(key_id):
            if len(turn.text) > offset:
                piece, offset = turn.text[offset:], len(turn.text)
                yield f'event: delta\nid: {offset}\ndata: {{"text": {_quoted(piece)}}}\n\n'.encode()
            elif turn.ended:
                break
            else:
                await turn.changed()
                if len(turn.text) <= offset and not turn.ended:
                    yield KEEP_ALIVE
    with translation.override(language):
        if not keyring.allows(key_id):
            yield frame("error", error_object(ApiError("invalid_api_key")))
        elif turn.error is None:
            yield frame("done", answer(turn), len(turn.text))
        elif turn.error.code != "overloaded":
            yield frame("error", error_object(turn.error))
        # else this process stops, the turn goes on elsewhere: the client comes back, as after any broken stream
