"""What one process needs to run turns: its provider, the list of models, and the turns that it runs.

Made inside the event loop, by the first who asks or when the server starts.
"""

import asyncio
import logging
import time
import weakref
from datetime import UTC, datetime

from django.conf import settings

from bancobot_project.errors import ApiError, record
from chat.catalogue import Catalogue
from chat.providers import get_provider
from chat.turns import Turn, Wishes
from sessions_api.housekeeping import interrupt_turns
from sessions_api.store import BegunTurn, Busy, NewTurn, Progress, begin_turns, save_progress
from sessions_api.writer import writer

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0  # how often the text so far is stored
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between two looks at a session that another process keeps busy


class Service:
    """The turns of this process. There is one per event loop: see `get_service`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.provider = get_provider()
        self.catalogue = Catalogue(self.provider, settings.MODELS_CACHE_SECONDS)
        self.running: dict[str, Turn] = {}
        self._queues: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        self._beat = asyncio.create_task(self._keep_progress())

    def begin(self, new: NewTurn, wishes: Wishes) -> Turn:
        """Start a turn; its question is stored when `turn.started` is done."""
        turn = Turn(new, wishes, self.provider, self.catalogue)
        self.running[turn.turn_id] = turn
        turn.task = asyncio.create_task(turn.run(self._claim))
        turn.task.add_done_callback(lambda _: self.running.pop(turn.turn_id, None))
        return turn

    async def _claim(self, new: NewTurn) -> BegunTurn:
        """Store the question as soon as the session has no unfinished turn. Who comes first is served first."""
        deadline = self.loop.time() + settings.SESSION_BUSY_WAIT_SECONDS
        queue = self._queues.setdefault(new.key, asyncio.Lock())
        if queue.locked():
            await self._wait_in_line(queue, deadline)
        else:
            await queue.acquire()
        try:
            return await self._wait_for_session(new, deadline)
        finally:
            queue.release()

    async def _wait_in_line(self, queue: asyncio.Lock, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await queue.acquire()
        except TimeoutError:
            raise ApiError("session_busy", retry_after=1) from None

    async def _wait_for_session(self, new: NewTurn, deadline: float) -> BegunTurn:
        pause = FIRST_PAUSE
        while True:
            answer = await writer.run(begin_turns, new)
            if isinstance(answer, BegunTurn):
                return answer
            patience = deadline - self.loop.time()
            if patience <= 0:
                raise ApiError("session_busy", retry_after=1)
            await self._wait_for_turn(answer, min(pause, patience), patience)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _wait_for_turn(self, busy: Busy, pause: float, patience: float) -> None:
        local = self.running.get(busy.turn_id)
        if local is not None and local.task is not None:
            await asyncio.wait([local.task], timeout=patience)
        elif (datetime.now(UTC) - busy.heartbeat_at).total_seconds() > settings.TURN_LEASE_SECONDS:
            await writer.run(interrupt_turns, busy.turn_id)
        else:
            await asyncio.sleep(pause)

    async def _keep_progress(self) -> None:
        """Store the running turns' text about once a second, and stop those that somebody else has ended."""
        stored: dict[str, tuple[float, int]] = {}
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.monotonic()
            stored = {turn_id: seen for turn_id, seen in stored.items() if turn_id in self.running}
            due = [turn for turn in self.running.values() if _is_due(turn, stored.get(turn.turn_id), now)]
            stored |= {turn.turn_id: (now, len(turn.text)) for turn in due}
            try:
                await asyncio.gather(*(self._store_progress(turn) for turn in due))
            except (
                Exception
            ) as problem:  # whatever it is, the next beat is due: without it turns would be taken for dead
                record(problem)

    async def _store_progress(self, turn: Turn) -> None:
        if turn.begun is not None:
            progress = Progress(turn.begun.session_pk, turn.begun.position, turn.text)
            if not await writer.run(save_progress, progress):
                turn.interrupt()

    async def stop(self, patience: float) -> None:
        """Let the running turns finish for so many seconds, then end them as interrupted with what they have."""
        tasks = [turn.task for turn in self.running.values() if turn.task is not None]
        if tasks:
            logger.info("waiting for running turns", extra={"turns": len(tasks)})
            await asyncio.wait(tasks, timeout=patience)
            for turn in list(self.running.values()):
                turn.interrupt()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._beat.cancel()
        await self.provider.aclose()


def _is_due(turn: Turn, stored: tuple[float, int] | None, now: float) -> bool:
    """Whether to store a turn now: when there is new text, and otherwise often enough to keep its lease."""
    if turn.begun is None or turn.ended:
        return False
    last, length = stored or (turn.began_at, 0)
    return (now - last >= BEAT_SECONDS and len(turn.text) > length) or now - last > settings.TURN_LEASE_SECONDS / 4


_service: Service | None = None


def get_service() -> Service:
    """The service of the running event loop."""
    global _service
    if _service is None or _service.loop is not asyncio.get_running_loop():
        _service = Service()
    return _service
