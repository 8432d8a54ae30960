"""What a process needs to run turns: its provider, the list of models, and the turns that run.

It is made inside the event loop, when the server starts or somebody first asks for it.
"""

import asyncio
import logging
import weakref
from collections import Counter
from dataclasses import replace
from functools import partial

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.utils.translation import gettext as _

from access.keyring import keyring
from access.limits import LimitStatus
from chat.engine.asking.catalogue import Catalogue
from chat.engine.asking.context import LearnedContexts
from chat.engine.asking.fallbacks import models_to_ask
from chat.engine.facts import service_facts
from chat.engine.following import FollowedTurn, StoredTurn, find_reply
from chat.engine.titles import ask_for_title, is_wanted
from chat.engine.turn import IdempotencyKeyUsed, Turn, TurnOptions
from chat.engine.upkeep import Upkeep
from chat.providers import get_provider
from sessions_api.console.facts import add_source
from sessions_api.models import Message
from sessions_api.retention.dead_turns import interrupt_turns, is_dead
from sessions_api.store.lookups import find_keys, find_models
from sessions_api.store.messages import (
    BegunTurn,
    NewTurn,
    SessionBusy,
    TooManySuperseded,
    TurnNotFound,
    UsedIdempotencyKey,
)
from sessions_api.store.turns import BeginResult, begin_turns, cancel_turns, request_cancellations
from sessions_api.store.writer import writer
from web.errors import ApiError

logger = logging.getLogger(__name__)

MAX_TOKENS = 10_000_000  # of a model whose limit is not known
CANCEL_SECONDS = 1.5  # for another process to stop its turn; after that the turn is marked as cancelled
FIRST_PAUSE, MAX_PAUSE = 0.05, 0.5  # seconds between two checks of a session that another process keeps busy


class Service:
    """The turns of this process. Each event loop has one service: see `get_service`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.provider = get_provider()
        self.catalogue = Catalogue(self.provider, settings.MODELS_CACHE_SECONDS)
        self.learned = LearnedContexts()
        self.running: dict[str, Turn] = {}
        self.stopping = False
        self._unsure: set[str] = set()  # turns that may be stored although the database did not confirm it
        self._titles: set[asyncio.Task[None]] = set()
        self._owners: Counter[str] = Counter()
        self._keyed: dict[tuple[str, str], Turn] = {}
        self._queues: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        self._upkeep = asyncio.create_task(Upkeep(self.running, self._unsure).run())

    async def begin(self, new: NewTurn, options: TurnOptions) -> tuple[FollowedTurn, bool]:
        """A turn whose question is stored: a new one, or the one that has the idempotency key.

        Returns also whether that one had ended before. Raises `ApiError` where no turn begins.
        """
        turn = self._keyed.get(new.owned_key) if new.owned_key else None
        if turn is not None:
            check_same(new, turn.new.fingerprint)
        elif refusal := self._refusal():
            known = (await writer.run(find_keys, new)) if new.owned_key else None
            if known is None:
                raise refusal
            return await self._replay(new, known)
        elif self._is_crowded(new.owner, options.limits.turns_in_flight):
            self.provider.release()
            raise ApiError("rate_limited", detail_code="turns_in_flight", retry_after=1, limit="turns_in_flight")
        else:
            turn = self._start(new, options)
        try:
            await asyncio.shield(turn.started)  # a client that leaves does not stop the turn
        except IdempotencyKeyUsed as used:
            return await self._replay(new, used.known)
        return turn, False

    def _refusal(self) -> ApiError | None:
        """Why no turn may begin now, whatever its model; `None` where one may."""
        if self.stopping or len(self.running) >= settings.MAX_TURNS_IN_FLIGHT:
            return ApiError("overloaded", retry_after=1)
        wait = self.provider.try_acquire()
        return ApiError("provider_unavailable", retry_after=wait) if wait > 0 else None

    def _is_crowded(self, owner: str, turns_in_flight: int) -> bool:
        """Whether an owner with a limit has so many turns here, most of them waiting, that others find no room."""
        return bool(turns_in_flight) and self._owners[owner] >= turns_in_flight + settings.MAX_TURNS_IN_FLIGHT // 4

    async def _replay(self, new: NewTurn, known: UsedIdempotencyKey) -> tuple[FollowedTurn, bool]:
        check_same(new, known.fingerprint)
        turn = await self.follow(new.owner, known.turn_id)
        return turn, turn.ended

    def _start(self, new: NewTurn, options: TurnOptions) -> Turn:
        turn = Turn(new, options, self.provider, self.catalogue, self.learned)
        self.running[turn.turn_id] = turn
        self._owners[new.owner] += 1
        if new.owned_key:
            self._keyed[new.owned_key] = turn
        turn.task = asyncio.create_task(turn.run(self._begin_turn))
        turn.task.add_done_callback(lambda _: self._forget(turn))
        return turn

    def _forget(self, turn: Turn) -> None:
        if is_wanted(turn) and not self.stopping:
            task = asyncio.create_task(ask_for_title(turn))
            self._titles.add(task)
            task.add_done_callback(self._titles.discard)
        self.running.pop(turn.turn_id, None)
        self._owners[turn.new.owner] -= 1
        if not self._owners[turn.new.owner]:
            del self._owners[turn.new.owner]
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

    async def _begin_turn(self, turn: Turn) -> BegunTurn:
        """Store the question as soon as the session has no unfinished turn. A revoked key stops it before."""
        with keyring.watching(turn.options.key_id):
            begin = self._begin_unless_failing if self.provider.refuses_models else self._begin_in_line
            return await begin(turn)

    async def _begin_unless_failing(self, turn: Turn) -> BegunTurn:
        """Store nothing while every model that may answer fails with the turn's key. A repetition is answered."""
        models, api_key = await self._models_of(turn), turn.options.api_key
        waits: list[float] = []
        for model in models:
            if not (wait := self.provider.try_acquire(model, api_key)):
                break
            waits.append(wait)
        else:
            await self._refuse_used_key(turn.new)
            raise ApiError("provider_unavailable", retry_after=min(waits))
        try:
            return await self._begin_in_line(turn)
        except BaseException:
            self.provider.release(model, api_key)
            raise

    async def _begin_in_line(self, turn: Turn) -> BegunTurn:
        """Turns of a session begin in the order in which they came."""
        new = turn.new
        deadline = self.loop.time() + turn.options.patience
        if turn.options.max_tokens is not None:
            await self._refuse_used_key(new)
            await self._check_max_tokens(new, turn.options.max_tokens)
        queue = self._queues.setdefault(new.session_key, asyncio.Lock())
        if queue.locked():
            await self._refuse_used_key(new)
            await self._wait_in_line(queue, deadline)
        else:
            await queue.acquire()
        try:
            return await self._wait_for_session(turn, deadline)
        finally:
            queue.release()

    async def _refuse_used_key(self, new: NewTurn) -> None:
        """A repetition must not be refused for its options, or wait in line. The store checks the key again."""
        if new.owned_key and (known := await writer.run(find_keys, new)):
            raise IdempotencyKeyUsed(known)

    async def _check_max_tokens(self, new: NewTurn, wanted: int) -> None:
        """Refuse more tokens than the model can write."""
        most = (await self.catalogue.limits(await self._model_of(new), MAX_TOKENS)).reply
        if wanted > most:
            problem = _("This model writes at most %d tokens.") % most
            raise ApiError("invalid_request", errors={"max_tokens": [problem]})

    async def _wait_in_line(self, queue: asyncio.Lock, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await queue.acquire()
        except TimeoutError:
            raise ApiError("session_busy", retry_after=1) from None

    async def _wait_for_session(self, turn: Turn, deadline: float) -> BegunTurn:
        pause = FIRST_PAUSE
        while True:
            keyring.refuse_lost(turn.options.key_id)
            new = turn.new = await self._with_quote(turn)
            try:
                answer = await _begin(new)
            except (DatabaseProblem, asyncio.CancelledError):
                self._unsure.add(new.turn_id)
                raise
            if isinstance(answer, BegunTurn):
                return answer
            if isinstance(answer, UsedIdempotencyKey):
                raise IdempotencyKeyUsed(answer)
            if isinstance(answer, LimitStatus):
                raise answer.error
            if isinstance(answer, TurnNotFound):
                raise ApiError("turn_not_found")
            if isinstance(answer, TooManySuperseded):
                problem = _("Too many messages come after this turn. Copy the session up to it instead.")
                raise ApiError("invalid_request", errors={"after_turn": [problem]})
            patience = deadline - self.loop.time()
            if answer.turn_id not in self.running and is_dead(answer.heartbeat_at):
                await writer.run(interrupt_turns, answer.turn_id)
            elif patience <= 0:
                raise ApiError("session_busy", retry_after=1)
            else:
                await self._wait_for_turn(answer, min(pause, patience), patience)
                pause = min(pause * 2, MAX_PAUSE)

    async def _with_quote(self, turn: Turn) -> NewTurn:
        """The new turn with its quote, where its owner has limits. The model is the session's at this moment."""
        new, options = turn.new, turn.options
        if options.limits.limit_storage:
            new = replace(new, room=options.limits)
        if not options.limits.limit_turns:
            return new
        models, max_tokens = await self._models_of(turn), options.max_tokens or options.default_max_tokens
        quote = await self.catalogue.quote(models, options.limits, options.default_context_length, max_tokens)
        return replace(new, quote=quote)

    async def _models_of(self, turn: Turn) -> list[str]:
        return models_to_ask(await self._model_of(turn.new), turn.options.fallback_models)

    async def _model_of(self, new: NewTurn) -> str:
        return new.model or await writer.run(find_models, new.session_key) or self.provider.default_model

    async def _wait_for_turn(self, busy: SessionBusy, pause: float, patience: float) -> None:
        local = self.running.get(busy.turn_id)
        if local is not None and local.task is not None:
            await asyncio.wait([local.task], timeout=patience)
        else:
            await asyncio.sleep(pause)

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


async def _begin(new: NewTurn) -> BeginResult:
    """What the store answers. A turn that has begun goes on, even if this task is cancelled at the same moment."""
    asked = writer.run(begin_turns, new)
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        answer = await asked
        if isinstance(answer, BegunTurn):
            return answer
        raise


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
