"""A turn from beginning to end: store the question, ask the provider, store the reply.

A turn runs in its own task. The client that asked for it only listens, like all that come later.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.utils.crypto import salted_hmac

from access.callers import Limits
from chat.engine.asking.catalogue import Catalogue
from chat.engine.asking.context import Fitted, LearnedContexts, fit, fit_less
from chat.engine.asking.draft import CANCELLED, Draft
from chat.engine.asking.fallbacks import ask_in_order, models_to_ask
from chat.providers.base import Options, Piece, Provider, ProviderError
from sessions_api.api.usage import turn_error
from sessions_api.models import Outcome
from sessions_api.store.messages import BegunTurn, NewTurn, UsedIdempotencyKey
from sessions_api.store.turns import as_cancelled, finish_turns
from sessions_api.store.writer import writer
from web.errors import ApiError, as_api_error, record

logger = logging.getLogger(__name__)

QUIET_SECONDS = 15.0  # after so long without news, listeners wake all the same
RECORD_PAUSES = (0.1, 0.2, 0.5, 1, 2, 2, 5, 5, 5, 10)  # seconds between the attempts to store an outcome


class IdempotencyKeyUsed(Exception):
    """No new turn is needed: the idempotency key belongs to one already."""

    def __init__(self, known: UsedIdempotencyKey) -> None:
        super().__init__(known.turn_id)
        self.known = known


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """How the caller wants the reply. `api_key` is the caller's own provider key, if there is one.

    `patience`: seconds to wait for a busy session. `limits` and `key_id` are the caller's. `fallback_models` may answer
    in the model's place; `None`: those of the settings.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    fallback_models: tuple[str, ...] | None = None
    default_max_tokens: int = 1000
    default_context_length: int = 32_768
    deadline_seconds: float = 300
    patience: float = 30
    key_id: str = ""
    limits: Limits = Limits()  # noqa: RUF009 - a tuple, so it cannot change
    api_key: str | None = field(default=None, repr=False)


class Turn:
    """A question and its growing reply.

    `text` grows. At the end `outcome` is set, which is stored by then, or `error`. `started` is done as soon as the
    question is stored; it holds the exception where the turn does not begin.
    """

    def __init__(
        self,
        new: NewTurn,
        options: TurnOptions,
        provider: Provider,
        catalogue: Catalogue,
        learned: LearnedContexts,
    ) -> None:
        self.turn_id = new.turn_id
        self.new = new
        self.options = options
        self.provider = provider
        self.catalogue = catalogue
        self.learned = learned
        self.draft = Draft(new.turn_id, provider.name)
        self.outcome: Outcome | None = None
        self.error: ApiError | None = None
        self.session_id = new.session_id
        self.begun: BegunTurn | None = None
        self.started: asyncio.Future[BegunTurn] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self._models: list[str] = []  # that may be asked, in this order
        self._recording = False
        self._end_as: str | None = None  # the code of an end that came from outside
        self._woken_at = self.draft.began_at
        self._readers: list[asyncio.Future[None]] = []  # every piece wakes them
        self._waiters: list[asyncio.Future[None]] = []  # no piece wakes them

    @property
    def text(self) -> str:
        return self.draft.text

    @property
    def model(self) -> str:
        return self.draft.model

    @property
    def omitted(self) -> int:
        return self.draft.omitted

    @property
    def began_at(self) -> float:
        return self.draft.began_at

    @property
    def ended(self) -> bool:
        return self.outcome is not None or self.error is not None

    async def run(self, begin: Callable[["Turn"], Awaitable[BegunTurn]]) -> None:
        """The turn's task: store the question, ask the provider, store the outcome. Raises nothing."""
        try:
            self.begun = await begin(self)
        except asyncio.CancelledError:
            self._refuse(ApiError("overloaded", retry_after=1))
            return
        except IdempotencyKeyUsed as used:
            self._refuse(used)
            return
        except Exception as problem:
            self._refuse(as_api_error(problem))
            return
        self.draft.model = self.begun.model or self.provider.default_model
        self.started.set_result(self.begun)
        failure = await self._ask(self.begun)
        try:
            await self._record(self.begun, failure)
        except Exception as problem:
            record(problem)
            self.error = ApiError("internal_error", turn_id=self.turn_id)
        self.wake()

    def _refuse(self, why: ApiError | IdempotencyKeyUsed) -> None:
        """End without a turn: nothing was stored."""
        self.provider.release()
        self.started.set_exception(why)
        self.started.exception()  # mark it as retrieved: maybe nobody listens any more

    async def _ask(self, begun: BegunTurn) -> ProviderError | None:
        """Take the provider's pieces until the reply is whole. Returns the reason where it is not."""
        if self._end_as:  # it came while the question was being stored
            return ProviderError(self._end_code)
        try:
            async with asyncio.timeout(self.options.deadline_seconds):
                await self._ask_models(begun)
        except ProviderError as failure:
            return failure
        except TimeoutError:
            return ProviderError("provider_timeout", "the turn's deadline", may_have_been_billed=True)
        except asyncio.CancelledError:  # the server stops, or the turn is cancelled or erased
            return ProviderError(self._end_code, may_have_been_billed=True)
        except Exception as problem:
            record(problem)
            return ProviderError("internal_error", may_have_been_billed=True)
        return None

    async def _ask_models(self, begun: BegunTurn) -> None:
        """Take the reply of the first model that accepts the request. Raises `ProviderError`."""
        self._models = models_to_ask(self.model, self.options.fallback_models)
        await ask_in_order(self._models, lambda model: self._ask_model(model, begun), self.draft)

    async def _ask_model(self, model: str, begun: BegunTurn) -> None:
        """Ask one model with as much of the history as fits; where that is too long all the same, with half of it.

        Not where the provider may have billed the first request. The next turn of the session then sends less.
        """
        session, told = (begun.session_pk, model), (begun.history, begun.system_prompt, self.new.question)
        limits = await self.catalogue.limits(model, self.options.default_context_length)
        limits = self.learned.limit(session, limits)
        max_tokens = min(self.options.max_tokens or self.options.default_max_tokens, limits.reply)
        fitted = fit(*told, limits, max_tokens, self.learned.most_past(session))
        for may_ask_again in (True, False):
            try:
                await self._send(model, begun, fitted)
            except ProviderError as failure:
                too_long = self.learned.refused(session, failure, fitted)
                if not too_long or not may_ask_again or failure.may_have_been_billed or self.text:
                    raise
            else:
                added = (self.new.question, self.text) if self.new.after_turn is None else ()
                self.learned.accepted(session, *added)
                return
            fitted = fit_less(fitted, *told)

    async def _send(self, model: str, begun: BegunTurn, fitted: Fitted) -> None:
        self.draft.omitted = begun.unread + fitted.omitted
        name = name_upstream(self.new.owner, begun.session_id)
        own, has_fallback = self.options, model != self._models[-1]
        options = Options(model, own.temperature, fitted.max_tokens, name, own.api_key, has_fallback)
        async with aclosing(self.provider.stream(fitted.messages, options)) as pieces:
            async for piece in pieces:
                self._take(piece)

    def _take(self, piece: Piece) -> None:
        self.draft.take(piece)
        if piece.text:
            self._wake_readers(time.monotonic())

    def interrupt(self, code: str = "turn_interrupted") -> None:
        """End the turn with the text it has, unless its outcome is already being stored."""
        if self.task is not None and not self._recording:
            self._end_as = self._end_as or code
            self.task.cancel()

    @property
    def _end_code(self) -> str:
        return self._end_as or "turn_interrupted"

    def cancel(self) -> None:
        """End the turn for its owner."""
        self.interrupt(CANCELLED)

    async def _record(self, begun: BegunTurn, failure: ProviderError | None) -> None:
        self._recording = True
        outcome = self.draft.outcome(begun, self.new.question, failure, self.new.quote)
        if self.new.storage_limits:
            outcome = replace(outcome, stored_for=self.new.owner)
        for pause in (*RECORD_PAUSES, 0):
            try:
                status = await writer.run(finish_turns, outcome)
                break
            except DatabaseProblem as problem:
                record(problem)
                await asyncio.sleep(pause)
        else:
            self.error = ApiError("database_unavailable", retry_after=1, turn_id=self.turn_id)
            return
        if status == CANCELLED:
            self.outcome = as_cancelled(outcome)
        elif status == "completed":
            self.outcome = outcome
        else:
            self._fail(failure, outcome)

    def _fail(self, failure: ProviderError | None, outcome: Outcome) -> None:
        code = failure.code if failure else "turn_interrupted"  # it was marked as dead, or erased
        code = "turn_interrupted" if code == CANCELLED else code
        reply = outcome if failure else replace(outcome, may_have_been_billed=True)
        self.error = turn_error(reply, code, self.turn_id, failure.retry_after if failure else None)
        logger.warning(
            "turn failed", extra={"turn": self.turn_id, "code": code, "reason": failure.detail if failure else ""}
        )

    async def wait(self) -> None:
        """Wait for the end. A waiting task may be cancelled; the turn goes on."""
        if self.task is not None:
            await asyncio.shield(self.task)

    async def changed(self, *, text: bool = True) -> None:
        """Wait for the end, for more text if `text`, or for a long silence (see `keep_alive`)."""
        if not self.ended:
            listener = asyncio.get_running_loop().create_future()
            (self._readers if text else self._waiters).append(listener)
            await listener

    def keep_alive(self, now: float) -> None:
        """Wake the listeners after a long silence. A timer for each wait would cost more."""
        if now - self._woken_at >= QUIET_SECONDS:
            self._wake_readers(now)

    def wake(self) -> None:
        """Wake all listeners."""
        self._wake_readers(time.monotonic())
        wake(self._waiters)

    def _wake_readers(self, now: float) -> None:
        self._woken_at = now
        wake(self._readers)


def wake(listeners: list[asyncio.Future[None]]) -> None:
    for listener in listeners:
        if not listener.done():
            listener.set_result(None)
    listeners.clear()


@lru_cache(maxsize=4096)
def name_upstream(owner: str, session_id: str) -> str:
    """A conversation's id for the provider. A keyed hash: clients may put customers' numbers into their ids."""
    name = f"{owner} {session_id}"
    return salted_hmac("chat.conversation", name, secret=settings.OWNER_HASH_KEY, algorithm="sha256").hexdigest()[:32]
