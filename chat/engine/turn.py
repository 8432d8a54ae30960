"""A turn from begin to end: a question stored, answered by the provider, and the reply stored.

A turn runs in a task of its own. Whoever asked for it, and whoever comes later, only listens.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.utils.crypto import salted_hmac

from access.budgets import Settlement
from access.callers import Limits
from chat.engine.catalogue import Catalogue
from chat.engine.context import fit
from chat.providers.base import ChatMessage, Options, Piece, Provider, ProviderError, Usage, estimate_tokens
from sessions_api.models import Outcome
from sessions_api.store.messages import BegunTurn, NewTurn, UsedIdempotencyKey
from sessions_api.store.turns import as_cancelled, finish_turns
from sessions_api.store.writer import writer
from web.errors import ApiError, as_api_error, record

logger = logging.getLogger(__name__)

NOTHING = Piece()
CENT_FRACTION = Decimal("1e-12")  # USD; what the record keeps of a cost
CANCELLED = "cancelled"
QUIET_SECONDS = 15.0  # after which listeners look up although nothing has happened
RECORD_PAUSES = (0.1, 0.2, 0.5, 1, 2, 2, 5, 5, 5, 10)  # seconds between the tries to store an outcome


class IdempotencyKeyUsed(Exception):
    """There is no need for a new turn: the idempotency key stands for one already."""

    def __init__(self, known: UsedIdempotencyKey) -> None:
        super().__init__(known.turn_id)
        self.known = known


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """How the caller wants the reply. `api_key` is the caller's own, if one was brought.

    `patience`: seconds to wait for a session that is busy. `limits` and `key_id` are the caller's.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    default_max_tokens: int = 1000
    default_context_length: int = 32_768
    deadline_seconds: float = 300
    patience: float = 30
    key_id: str = ""
    limits: Limits = Limits()  # noqa: RUF009 - a tuple, which nobody can change
    api_key: str | None = field(default=None, repr=False)


class Turn:
    """A question and its reply in the making.

    `text` grows; `outcome` is set once it is stored, or `error` where that or anything else failed. `started` is done
    as soon as the question is stored, and holds the exception where that was not to be.
    """

    def __init__(self, new: NewTurn, options: TurnOptions, provider: Provider, catalogue: Catalogue) -> None:
        self.turn_id = new.turn_id
        self.new = new
        self.options = options
        self.provider = provider
        self.catalogue = catalogue
        self.text = ""
        self.model = ""
        self.omitted = 0
        self.outcome: Outcome | None = None
        self.error: ApiError | None = None
        self.session_id = new.session_id
        self.begun: BegunTurn | None = None
        self.started: asyncio.Future[BegunTurn] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.began_at = time.monotonic()
        self._recording = False
        self._end_as: str | None = None  # the code of an end from outside
        self._first_text_at: float | None = None
        self._woken_at = self.began_at
        self._known = NOTHING
        self._listeners: list[asyncio.Future[None]] = []

    @property
    def ended(self) -> bool:
        return self.outcome is not None or self.error is not None

    async def run(self, claim: Callable[["Turn"], Awaitable[BegunTurn]]) -> None:
        """The turn's task: claim the session, ask the provider, record the outcome. Raises nothing."""
        try:
            self.begun = await claim(self)
        except asyncio.CancelledError:
            self._refuse(ApiError("overloaded", retry_after=1))
            return
        except IdempotencyKeyUsed as used:
            self._refuse(used)
            return
        except Exception as problem:
            self._refuse(as_api_error(problem))
            return
        self.model = self.begun.model or self.provider.default_model
        self.started.set_result(self.begun)
        failure = await self._ask(self.begun)
        try:
            await self._record(self.begun, failure)
        except Exception as problem:
            record(problem)
            self.error = ApiError("internal_error", turn_id=self.turn_id)
        self.wake()

    def _refuse(self, why: ApiError | IdempotencyKeyUsed) -> None:
        """Nothing was stored, so there is no turn."""
        self.provider.release()
        self.started.set_exception(why)
        self.started.exception()  # whether or not anybody still listens

    async def _ask(self, begun: BegunTurn) -> ProviderError | None:
        """Take the provider's pieces until the reply is whole; answers why it is not."""
        if self._end_as:  # while the question was being stored
            return ProviderError(self._end_code)
        try:
            async with asyncio.timeout(self.options.deadline_seconds):
                messages, options = await self._request(begun)
                async with aclosing(self.provider.stream(messages, options)) as pieces:
                    async for piece in pieces:
                        self._take(piece)
        except ProviderError as failure:
            return failure
        except TimeoutError:
            return ProviderError("provider_timeout", "the turn's deadline", may_have_been_billed=True)
        except asyncio.CancelledError:  # the server stops, or somebody stops or erases the turn
            return ProviderError(self._end_code, may_have_been_billed=True)
        except Exception as problem:
            record(problem)
            return ProviderError("internal_error", may_have_been_billed=True)
        return None

    async def _request(self, begun: BegunTurn) -> tuple[list[ChatMessage], Options]:
        context, most = await self.catalogue.limits(self.model, self.options.default_context_length)
        max_tokens = min(self.options.max_tokens or self.options.default_max_tokens, most)
        messages, omitted = fit(begun.history, begun.system_prompt, self.new.question, context, max_tokens)
        self.omitted = begun.unread + omitted
        options = self.options
        name = name_upstream(self.new.owner, begun.session_id)
        return messages, Options(self.model, options.temperature, max_tokens, name, options.api_key)

    def _take(self, piece: Piece) -> None:
        if piece[1:] != NOTHING[1:]:  # what is known of the reply beside its text
            merged: list[Any] = [new or old for new, old in zip(piece, self._known, strict=True)]
            self._known = Piece(*merged)
        if piece.text:
            self.text += piece.text
            self.wake()
            if self._first_text_at is None:
                self._first_text_at = self._woken_at

    def interrupt(self, code: str = "turn_interrupted") -> None:
        """End the turn with what it has, unless its outcome is being stored already."""
        if self.task is not None and not self._recording:
            self._end_as = self._end_as or code
            self.task.cancel()

    @property
    def _end_code(self) -> str:
        return self._end_as or "turn_interrupted"

    def cancel(self) -> None:
        """End the turn because its owner wants it to end."""
        self.interrupt(CANCELLED)

    async def _record(self, begun: BegunTurn, failure: ProviderError | None) -> None:
        self._recording = True
        outcome = self._outcome(begun, failure)
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
        code = failure.code if failure else "turn_interrupted"  # somebody took the turn for dead, or erased it
        code = "turn_interrupted" if code == CANCELLED else code
        self.error = ApiError(
            code,
            retry_after=failure.retry_after if failure else None,
            turn_id=self.turn_id,
            may_have_been_billed=outcome.may_have_been_billed or failure is None,
        )
        logger.warning(
            "turn failed", extra={"turn": self.turn_id, "code": code, "reason": failure.detail if failure else ""}
        )

    def _outcome(self, begun: BegunTurn, failure: ProviderError | None) -> Outcome:
        now, last = time.monotonic(), self._known
        usage = last.usage or self._estimate(begun, failure)
        status = _status(failure)
        return Outcome(
            session_pk=begun.session_pk,
            position=begun.position,
            content=self.text,
            status=status,
            model=(last.model or self.model)[:200],
            provider=(last.provider or self.provider.name)[:100],
            generation_id=(last.generation_id or "")[:200],
            finish_reason=_finish_reason(status, last),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            usage_estimated=usage.estimated,
            cost=None if usage.cost is None else usage.cost.quantize(CENT_FRACTION),
            first_token_ms=_milliseconds(self.began_at, self._first_text_at),
            latency_ms=_milliseconds(self.began_at, now),
            history_omitted=self.omitted,
            error_code=failure.code if failure and status != CANCELLED else "",
            may_have_been_billed=_maybe_billed(failure),
            settlement=self._settlement(usage, unknown=last.usage is None and not self.text and _maybe_billed(failure)),
        )

    def _settlement(self, usage: Usage, *, unknown: bool) -> Settlement | None:
        """What the turn counts for in its owner's limits: what the record says, and a price where it has none.

        `unknown`: it had gone upstream, and nobody said what it took. Else one could have prompts read for nothing.
        """
        quote = self.new.quote
        if quote is None:
            return None
        if unknown:
            return Settlement(self.turn_id)
        tokens = usage.prompt_tokens + usage.completion_tokens
        cost = usage.cost
        if cost is None:
            cost = quote.cost(usage.prompt_tokens, usage.completion_tokens) if tokens else Decimal(0)
        return Settlement(self.turn_id, tokens, cost.quantize(CENT_FRACTION))

    def _estimate(self, begun: BegunTurn, failure: ProviderError | None) -> Usage:
        """What a reply took of which the provider did not say, or could not any more: nothing, where nothing came."""
        if failure and not self.text:
            return Usage(estimated=failure.may_have_been_billed)
        texts = [begun.system_prompt, self.new.question, *(message.content for message in begun.history)]
        return Usage(sum(map(estimate_tokens, texts)), estimate_tokens(self.text), estimated=True)

    async def wait(self) -> None:
        """Wait for the end. Who waits may be cancelled; the turn goes on."""
        if self.task is not None:
            await asyncio.shield(self.task)

    async def changed(self) -> None:
        """Wait for more text, or the end; or for a while in which nothing happens (see `keep_alive`)."""
        if not self.ended:
            listener = asyncio.get_running_loop().create_future()
            self._listeners.append(listener)
            await listener

    def keep_alive(self, now: float) -> None:
        """Let the listeners look up if they have waited for long. A timer for each of their waits would cost more."""
        if now - self._woken_at >= QUIET_SECONDS:
            self.wake(now)

    def wake(self, now: float | None = None) -> None:
        """Let the listeners look up."""
        self._woken_at = time.monotonic() if now is None else now
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if not listener.done():
                listener.set_result(None)


def name_upstream(owner: str, session_id: str) -> str:
    """What the provider knows a conversation by: clients may put a customer's number into their ids."""
    name = f"{owner} {session_id}"
    return salted_hmac("chat.conversation", name, secret=settings.OWNER_HASH_KEY, algorithm="sha256").hexdigest()[:32]


def _maybe_billed(failure: ProviderError | None) -> bool:
    return failure is not None and failure.may_have_been_billed


def _status(failure: ProviderError | None) -> str:
    if failure is None:
        return "completed"
    return {"turn_interrupted": "interrupted", CANCELLED: CANCELLED}.get(failure.code, "failed")


def _finish_reason(status: str, last: Piece) -> str:
    return (last.finish_reason or "")[:50] if status == "completed" else CANCELLED if status == CANCELLED else "error"


def _milliseconds(start: float, end: float | None) -> int | None:
    return None if end is None else round((end - start) * 1000)
