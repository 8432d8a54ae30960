"""Twice a second, stores the text of running turns and reads the news about them from the database."""

import asyncio
import contextlib
import time

from django.conf import settings
from django.db import Error as DatabaseProblem

from access.keyring import keyring, read_keys, store_uses
from chat.engine.turn import Turn
from sessions_api.store.messages import TurnProgress
from sessions_api.store.turns import abandon_turns, find_cancellations, save_progress
from sessions_api.store.writer import writer
from web.errors import record

BEAT_SECONDS = 0.5  # seconds between two rounds
PROGRESS_SECONDS = 1.0  # seconds between two saves of a running turn's text


class Upkeep:
    """Looks after the turns in `running`. Ends those in `unsure`, which may be stored although nothing confirmed it."""

    def __init__(self, running: dict[str, Turn], unsure: set[str]) -> None:
        self._running = running
        self._unsure = unsure
        self._refused: set[str] = set()  # keys that were refused while somebody listened with them

    async def run(self) -> None:
        """Store the running turns' text about once a second, and stop turns that were ended elsewhere.

        Also wake listeners after a long silence.
        """
        stored: dict[str, tuple[float, int]] = {}
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.monotonic()
            for turn in self._running.values():
                turn.keep_alive(now)
            stored = {turn_id: seen for turn_id, seen in stored.items() if turn_id in self._running}
            due = [turn for turn in self._running.values() if _is_due(turn, stored.get(turn.turn_id), now)]
            stored |= {turn.turn_id: (now, len(turn.text)) for turn in due}
            try:
                await asyncio.gather(
                    self._apply_cancellations(),
                    self._abandon_unsure(),
                    self._watch_keys(),
                    *(self._store_progress(turn) for turn in due),
                )
            except Exception as problem:  # the next beat is due all the same: without it, turns would count as dead
                record(problem)

    async def _apply_cancellations(self) -> None:
        if self._running:
            with contextlib.suppress(DatabaseProblem):  # the turns notice it themselves
                for turn_id in await writer.run(find_cancellations, None):
                    if turn_id in self._running:
                        self._running[turn_id].cancel()

    async def _watch_keys(self) -> None:
        """Look up the keys of all listeners, and wake the listeners when one is refused."""
        watched, uses = list(keyring.watched), keyring.take_uses()
        with contextlib.suppress(DatabaseProblem):  # no revocation can be known now
            asked_at = time.monotonic()
            keys = await asyncio.gather(*(writer.run(read_keys, identifier) for identifier in watched))
            for identifier, key in zip(watched, keys, strict=True):
                keyring.keep(identifier, key, asked_at)
            refused = {identifier for identifier in watched if not keyring.allows(identifier)}
            if refused - self._refused:
                keyring.refusals += 1
                for turn in self._running.values():
                    turn.wake()
            self._refused = refused
            await asyncio.gather(*(writer.run(store_uses, use) for use in uses))

    async def _abandon_unsure(self) -> None:
        with contextlib.suppress(DatabaseProblem):  # try again at the next beat
            for turn_id in list(self._unsure):
                await writer.run(abandon_turns, turn_id)
                self._unsure.discard(turn_id)

    async def _store_progress(self, turn: Turn) -> None:
        if turn.begun is not None:
            progress = TurnProgress(turn.begun.session_pk, turn.begun.position, turn.text)
            if not await writer.run(save_progress, progress):
                turn.interrupt()


def _is_due(turn: Turn, stored: tuple[float, int] | None, now: float) -> bool:
    """Whether to store a turn now: there is new text, or its lease needs a heartbeat."""
    if turn.begun is None or turn.ended:
        return False
    last, length = stored or (turn.began_at, 0)
    return (now - last >= PROGRESS_SECONDS and len(turn.text) > length) or now - last > settings.TURN_LEASE_SECONDS / 4
