"""The way from a turn that wants to begin to its stored question: the line of its session."""

import asyncio
import weakref
from collections.abc import Mapping
from dataclasses import replace

from django.db import Error as DatabaseProblem
from django.utils.translation import gettext as _

from access.keyring import keyring
from access.limits import LimitStatus
from chat.engine.asking.catalogue import Catalogue
from chat.engine.asking.fallbacks import models_to_ask
from chat.engine.turn import IdempotencyKeyUsed, Turn
from chat.providers.base import Provider
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
from sessions_api.store.turns import BeginResult, begin_turns
from sessions_api.store.writer import writer
from web.errors import ApiError

MAX_TOKENS = 10_000_000  # of a model whose limit is not known
FIRST_PAUSE, MAX_PAUSE = 0.05, 0.5  # seconds between two checks of a session that another process keeps busy


class Line:
    """The turns of a process that want to begin, in a line for each session. Only its head asks the database.

    `running` are the process's turns; `unsure` gets the ids of those that may be stored although the database did not
    confirm it.
    """

    def __init__(self, provider: Provider, catalogue: Catalogue, running: Mapping[str, Turn], unsure: set[str]) -> None:
        self.provider = provider
        self.catalogue = catalogue
        self.running = running
        self._unsure = unsure
        self._queues: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    async def begin(self, turn: Turn) -> BegunTurn:
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
        deadline = asyncio.get_running_loop().time() + turn.options.patience
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
            patience = deadline - asyncio.get_running_loop().time()
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
            new = replace(new, storage_limits=options.limits)
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
