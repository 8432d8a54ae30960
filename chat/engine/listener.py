"""Listening to a turn: for its first words, its end or every piece, and no longer than the listener's key is good."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from access.keyring import keyring
from chat.engine.following import FollowedTurn

MAX_PIECE_CHARS = 16_384  # of a slow reader's next piece: all that came meanwhile could be the whole reply
SILENCE_SECONDS = 10.0  # an event stream begins after so long, even if the turn has said nothing


class Listener:
    """Who waits for a turn. `key_id`: the listener's key, empty where it has none of ours.

    Every wait raises `ApiError` as soon as that key is refused. The turn itself goes on.
    """

    def __init__(self, turn: FollowedTurn, key_id: str) -> None:
        self.turn = turn
        self._key_id = key_id

    async def wait_for_end(self) -> None:
        await self._wait_until(lambda: self.turn.ended, text=False)

    async def wait_for_first_sign(self) -> None:
        """Wait for text, the end, or `SILENCE_SECONDS`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._wait_until(lambda: bool(self.turn.text) or self.turn.ended)

    async def _wait_until(self, reached: Callable[[], bool], *, text: bool = True) -> None:
        with keyring.watching(self._key_id):
            keyring.refuse_lost(self._key_id)
            while not reached():
                await self.turn.changed(text=text)
                keyring.refuse_lost(self._key_id)

    async def pieces(self, offset: int) -> AsyncGenerator[str]:
        """The text from character `offset` on, piece by piece to the end; an empty piece now and then in silence."""
        turn = self.turn
        with keyring.watching(self._key_id):
            while True:
                keyring.refuse_lost(self._key_id)
                if len(turn.text) > offset:
                    piece = turn.text[offset : offset + MAX_PIECE_CHARS]
                    offset += len(piece)
                    yield piece
                elif turn.ended:
                    return
                else:
                    await turn.changed()
                    if len(turn.text) <= offset and not turn.ended:
                        yield ""
