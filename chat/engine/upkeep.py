"""Twice a second, stores the text of running turns and reads the news about them from the database."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
# Each save writes all of the text, so long ones are saved less often, and few in one round.
CHARS_PER_SECOND = 50_000
LONG_CHARS, MAX_LONG_CHARS = 20_000, 200_000


@dataclass(slots=True)
class Saved:
    """When a turn last gave a sign to the database, and when its text was saved, how long it was then."""

    beat_at: float
    text_at: float
    length: int = 0


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
        saved: dict[str, Saved] = {}
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.monotonic()
            for turn in self._running.values():
                turn.keep_alive(now)
            saved = {turn_id: seen for turn_id, seen in saved.items() if turn_id in self._running}
            due = list(_due(self._running.values(), saved, now))
            try:
                await asyncio.gather(
                    self._apply_cancellations(),
                    self._abandon_unsure(),
                    self._watch_keys(),
                    *(self._store_progress(turn, text) for turn, text in due),
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

    async def _store_progress(self, turn: Turn, text: str | None) -> None:
        if turn.begun is not None:
            progress = TurnProgress(turn.begun.session_pk, turn.begun.position, text)
            if not await writer.run(save_progress, progress):
                turn.interrupt()


def _due(turns: Iterable[Turn], saved: dict[str, Saved], now: float) -> Iterator[tuple[Turn, str | None]]:
    """The turns to store now, each with its text, or with `None` where its lease needs a heartbeat alone."""
    running = [turn for turn in turns if turn.begun is not None and not turn.ended]
    seen = [(saved.setdefault(turn.turn_id, Saved(turn.began_at, turn.began_at)), turn) for turn in running]
    room = MAX_LONG_CHARS
    for known, turn in sorted(seen, key=lambda pair: pair[0].text_at):
        length = len(turn.text)
        rested = now - known.text_at >= max(PROGRESS_SECONDS, length / CHARS_PER_SECOND)
        if length > known.length and rested and (length <= LONG_CHARS or room > 0):
            room -= length if length > LONG_CHARS else 0
            known.beat_at = known.text_at = now
            known.length = length
            yield turn, turn.text
        elif now - known.beat_at > settings.TURN_LEASE_SECONDS / 4:
            known.beat_at = now
            yield turn, None
