"""A reply as it grows, and what is stored of it at the end."""

import time
from decimal import Decimal
from typing import Any

from access.budgets import Quote, Settlement
from chat.providers.base import Piece, ProviderError, Usage, estimate_tokens
from sessions_api.models import Outcome
from sessions_api.store.messages import BegunTurn, token_bound

NOTHING = Piece()
CENT_FRACTION = Decimal("1e-12")  # USD; the precision of a stored cost
CANCELLED = "cancelled"


class Draft:
    """The reply so far. Times are of the monotonic clock.

    `omitted`: how many messages of the history were not sent. `notes`: what an answer and the record name beside the
    reply, as `sessions_api.models.NOTES`.
    """

    def __init__(self, turn_id: str, provider: str) -> None:
        self.turn_id = turn_id
        self.text = ""
        self.model = ""
        self.omitted = 0
        self.began_at = time.monotonic()
        self.first_text_at: float | None = None
        self.notes: dict[str, Any] = {}
        self._provider = provider
        self._known = NOTHING

    def take(self, piece: Piece) -> None:
        if piece[1:] != NOTHING[1:]:  # more than text
            merged: list[Any] = [new or old for new, old in zip(piece, self._known, strict=True)]
            self._known = Piece(*merged)
            if piece.left_out:
                self.notes["parameters_left_out"] = list(piece.left_out)
        if piece.text:
            self.text += piece.text
            if self.first_text_at is None:
                self.first_text_at = time.monotonic()

    def outcome(self, begun: BegunTurn, question: str, failure: ProviderError | None, quote: Quote | None) -> Outcome:
        """How the turn ended. `failure`: why the reply is not whole. `quote`: the owner's limits, if any."""
        now, last = time.monotonic(), self._known
        usage = last.usage or self._estimate(begun, question, failure)
        status = _status(failure)
        unknown = last.usage is None and not self.text and _maybe_billed(failure)
        settlement = None
        if quote is not None:
            settlement = self._most(quote, begun, question) if unknown else self._settlement(quote, usage)
        return Outcome(
            session_pk=begun.session_pk,
            position=begun.position,
            content=self.text,
            status=status,
            model=(last.model or self.model)[:200],
            provider=(last.provider or self._provider)[:100],
            generation_id=(last.generation_id or "")[:200],
            finish_reason=_finish_reason(status, last, failure),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            usage_estimated=usage.estimated,
            cost=None if usage.cost is None else usage.cost.quantize(CENT_FRACTION),
            first_token_ms=_milliseconds(self.began_at, self.first_text_at),
            latency_ms=_milliseconds(self.began_at, now),
            history_omitted=self.omitted,
            error_code=failure.code if failure and status != CANCELLED else "",
            may_have_been_billed=_maybe_billed(failure),
            settlement=settlement,
            metadata=self.notes,
        )

    def _most(self, quote: Quote, begun: BegunTurn, question: str) -> Settlement:
        """What counts where the provider had the request and did not say what it used: all that the model could use.

        Otherwise somebody could have prompts read for nothing. No other model accepted the request.
        """
        if len(quote.offers) == 1:
            return Settlement(self.turn_id)  # what was reserved
        texts = [begun.system_prompt, question, *(message.content for message in begun.history)]
        tokens, cost = quote.most(sum(map(token_bound, texts)), self.model)
        return Settlement(self.turn_id, tokens, cost.quantize(CENT_FRACTION))

    def _settlement(self, quote: Quote, usage: Usage) -> Settlement:
        """What counts against the owner's limits: the recorded usage, with a price where the provider named none."""
        tokens = usage.prompt_tokens + usage.completion_tokens
        cost = usage.cost
        if cost is None:
            cost = quote.cost(self.model, usage.prompt_tokens, usage.completion_tokens) if tokens else Decimal(0)
        return Settlement(self.turn_id, tokens, cost.quantize(CENT_FRACTION))

    def _estimate(self, begun: BegunTurn, question: str, failure: ProviderError | None) -> Usage:
        """The usage of a reply that the provider did not count. Zero where the turn failed without text."""
        if failure and not self.text:
            return Usage(estimated=failure.may_have_been_billed)
        texts = [begun.system_prompt, question, *(message.content for message in begun.history)]
        return Usage(sum(map(estimate_tokens, texts)), estimate_tokens(self.text), estimated=True)


def _maybe_billed(failure: ProviderError | None) -> bool:
    return failure is not None and failure.may_have_been_billed


def _status(failure: ProviderError | None) -> str:
    if failure is None:
        return "completed"
    return {"turn_interrupted": "interrupted", CANCELLED: CANCELLED}.get(failure.code, "failed")


def _finish_reason(status: str, last: Piece, failure: ProviderError | None) -> str:
    if failure is None:
        return (last.finish_reason or "")[:50]
    return CANCELLED if status == CANCELLED else failure.finish_reason or "error"


def _milliseconds(start: float, end: float | None) -> int | None:
    return None if end is None else round((end - start) * 1000)
