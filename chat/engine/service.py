"""What a process needs to run turns: its provider, the list of models, and the turns that run.

It is made inside the event loop, when the server starts or somebody first asks for it.
"""

import asyncio
import logging
from functools import partial

from django.conf import settings

from chat.engine.asking.catalogue import Catalogue
from chat.engine.asking.context import LearnedContexts
from chat.engine.facts import service_facts
from chat.engine.following import FollowedTurn, StoredTurn, find_reply
from chat.engine.line import Line
from chat.engine.places import Places
from chat.engine.titles import ask_for_title, is_wanted
from chat.engine.turn import IdempotencyKeyUsed, Turn, TurnOptions
from chat.engine.upkeep import Upkeep
from chat.providers import get_provider
from sessions_api.console.facts import add_source
from sessions_api.models import Message
from sessions_api.store.lookups import find_keys
from sessions_api.store.messages import (
    NewTurn,
    UsedIdempotencyKey,
)
from sessions_api.store.turns import cancel_turns, request_cancellations
from sessions_api.store.writer import writer
from web.errors import ApiError

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 1.5  # for another process to stop its turn; after that the turn is marked as cancelled


class Service:
    """The turns of this process. Each event loop has one service: see `get_service`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.provider = get_provider()
        self.catalogue = Catalogue(self.provider, settings.MODELS_CACHE_SECONDS)
        self.learned = LearnedContexts()
        self.running: dict[str, Turn] = {}
        self.stopping = False
        self._titles: set[asyncio.Task[None]] = set()
        self._keyed: dict[tuple[str, str], Turn] = {}
        self._places = Places()
        unsure: set[str] = set()  # turns that may be stored although the database did not confirm it
        self._line = Line(self.provider, self.catalogue, self.running, unsure)
        self._upkeep = asyncio.create_task(Upkeep(self.running, unsure).run())

    async def begin(self, new: NewTurn, options: TurnOptions) -> tuple[FollowedTurn, bool]:
        """A turn whose question is stored: a new one, or the one that has the idempotency key.

        Returns also whether that one had ended before. Raises `ApiError` where no turn begins.
        """
        turn = self._keyed.get(new.owned_key) if new.owned_key else None
        if turn is not None:
            check_same(new, turn.new.fingerprint)
        elif refusal := self._refusal(new, options):
            known = (await writer.run(find_keys, new)) if new.owned_key else None
            if known is None:
                raise refusal
            return await self._replay(new, known)
        else:
            turn = self._start(new, options)
        try:
            await asyncio.shield(turn.started)  # a client that leaves does not stop the turn
        except IdempotencyKeyUsed as used:
            return await self._replay(new, used.known)
        return turn, False

    def _refusal(self, new: NewTurn, options: TurnOptions) -> ApiError | None:
        """Why the turn may not begin now, whatever its model; `None` where it may."""
        if self.stopping:
            return ApiError("overloaded", retry_after=1)
        if refusal := self._places.refusal(new, options.limits.turns_in_flight):
            return refusal
        wait = self.provider.try_acquire()
        return ApiError("provider_unavailable", retry_after=wait) if wait > 0 else None

    async def _replay(self, new: NewTurn, known: UsedIdempotencyKey) -> tuple[FollowedTurn, bool]:
        check_same(new, known.fingerprint)
        turn = await self.follow(new.owner, known.turn_id)
        return turn, turn.ended

    def _start(self, new: NewTurn, options: TurnOptions) -> Turn:
        turn = Turn(new, options, self.provider, self.catalogue, self.learned)
        self.running[turn.turn_id] = turn
        self._places.take(turn)
        if new.owned_key:
            self._keyed[new.owned_key] = turn
        turn.task = asyncio.create_task(turn.run(self._line.begin))
        turn.task.add_done_callback(lambda _: self._forget(turn))
        return turn

    def _forget(self, turn: Turn) -> None:
        if is_wanted(turn) and not self.stopping:
            task = asyncio.create_task(ask_for_title(turn))
            self._titles.add(task)
            task.add_done_callback(self._titles.discard)
        self.running.pop(turn.turn_id, None)
        self._places.leave(turn)
        if turn.new.owned_key:
            self._keyed.pop(turn.new.owned_key, None)

    async def follow(self, owner: str, turn_id: str) -> FollowedTurn:
        """The owner's turn, to listen to. Raises `ApiError` where there is none."""
        reply = await self.find(owner, turn_id)
        return self.running.get(turn_id) or StoredTurn(owner, reply, self.provider.default_model, lambda: self.stopping)

    async def find(self, owner: str, turn_id: str) -> Message:
        """The owner's turn as it is stored. Raises `ApiError` where there is none."""
        reply = await find_reply(owner, turn_id, alive=turn_id in self.running)
        if reply is None:
            raise ApiError("turn_not_found")
        return reply

    async def cancel(self, owner: str, turn_id: str) -> None:
        """Stop the owner's turn, whichever process runs it, and keep its text. An ended turn stays as it is."""
        turn = await self.follow(owner, turn_id)
        if isinstance(turn, Turn):
            turn.cancel()
            await turn.wait()
        elif not turn.ended:
            await writer.run(request_cancellations, turn_id)
            try:
                async with asyncio.timeout(CANCEL_SECONDS):
                    await turn.wait()
            except TimeoutError:
                await writer.run(cancel_turns, turn_id)

    async def stop(self, patience: float) -> None:
        """Give the running turns so many seconds to finish, then end them as interrupted, with the text they have."""
        self.stopping = True
        tasks = [turn.task for turn in self.running.values() if turn.task is not None]
        if tasks:
            logger.info("waiting for running turns", extra={"turns": len(tasks)})
            await asyncio.wait(tasks, timeout=patience)
            for turn in list(self.running.values()):
                turn.interrupt()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in (self._upkeep, *self._titles):
            task.cancel()
        await self.provider.aclose()


def check_same(new: NewTurn, fingerprint: str) -> None:
    """Raise `ApiError` where the idempotency key was used for another request."""
    if new.fingerprint != fingerprint:
        raise ApiError("idempotency_mismatch")


_service: Service | None = None


def get_service() -> Service:
    """The service of the running event loop."""
    global _service
    if _service is None or _service.loop is not asyncio.get_running_loop():
        _service = Service()
        add_source("provider", partial(service_facts, _service))
    return _service
