"""The provider's list of models, kept for a while: one fetch at a time, and an old list rather than none."""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from access.budgets import Offer, Quote
from access.callers import Limits
from chat.providers.base import Provider, ProviderError
from chat.providers.model_limits import ListedLimits, limits_in
from web.responses import KeptAnswer, keep

logger = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = 15.0  # seconds before the next attempt
FIRST_FETCH_PATIENCE = 2.0  # seconds that turns wait for the first list
KEY_REFUSED = {"provider_auth_failed", "provider_payment_required", "permission_denied"}

Entry = dict[str, Any]
UNLISTED = limits_in({})


class ModelLimits(NamedTuple):
    """A model's context and its longest reply, in tokens. `is_listed`: the provider's list names the context."""

    context: int
    reply: int
    is_listed: bool


class Catalogue:
    """The models, with their limits and prices."""

    def __init__(self, provider: Provider, keep_seconds: float) -> None:
        self._provider = provider
        self._keep_seconds = keep_seconds
        self._listing: KeptAnswer | None = None
        self._by_name = Names([])
        self._limits: dict[int, ListedLimits] = {}  # by the entry's place in memory; they live as long as the list
        self._fetch_again_at = self._began_at = 0.0
        self._failure: ProviderError | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def listing(self, api_key: str | None = None) -> KeptAnswer:
        """The list, as GET /models answers it. Raises `ProviderError` where there has never been one.

        `api_key` is the caller's own, for a provider that shows no list to the server's key. That list is the caller's
        alone, and is not kept.
        """
        if time.monotonic() >= self._fetch_again_at:
            await asyncio.shield(self._fetch())
        if self._listing is not None:
            return self._listing
        failure = self._failure or ProviderError("provider_unavailable")
        if api_key and failure.code in KEY_REFUSED:
            return await asyncio.to_thread(encoded, await self._provider.models(api_key))
        raise failure

    async def limits(self, model: str, default_context: int) -> ModelLimits:
        """The context and the longest reply of a model, with `default_context` where the list names none."""
        if time.monotonic() >= self._fetch_again_at:
            fetch = self._fetch()
            patience = self._began_at + FIRST_FETCH_PATIENCE - time.monotonic()
            if self._listing is None and self._failure is None and patience > 0:
                await asyncio.wait([fetch], timeout=patience)
        listed = self._listed(self._by_name.find(model))
        context = listed.context or default_context
        return ModelLimits(context, min(context, listed.reply or context), listed.context > 0)

    async def quote(self, models: Sequence[str], limits: Limits, default_context: int, max_tokens: int) -> Quote:
        """The most that an owner's turn may use, whichever of the models answers."""
        return Quote(limits, {model: await self._offer(model, default_context, max_tokens) for model in models})

    async def _offer(self, model: str, default_context: int, max_tokens: int) -> Offer:
        """Without a price from the provider, a turn's cost is unknown."""
        context, most, _ = await self.limits(model, default_context)
        pricing = self._by_name.find(model).get("pricing")
        prompt, completion, request = (_price(pricing, name) for name in ("prompt", "completion", "request"))
        priced = prompt is not None and completion is not None
        zero = Decimal(0)
        prices = prompt or zero, completion or zero, request or zero
        return Offer(context, min(max_tokens, most), *prices, priced)

    def _listed(self, entry: Entry) -> ListedLimits:
        """The limits in an entry. A model that is adapted from another one (vLLM) has that one's context."""
        if not entry:
            return UNLISTED
        limits = self._limits.get(id(entry))
        if limits is None:
            limits = limits_in(entry)
            if not limits.context and isinstance(entry.get("parent"), str):
                limits = limits._replace(context=limits_in(self._by_name.exact.get(entry["parent"], {})).context)
            self._limits[id(entry)] = limits
        return limits

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._began_at = time.monotonic()
            self._fetching = asyncio.create_task(self._refresh())
        return self._fetching

    async def _refresh(self) -> None:
        try:
            models = await self._provider.models()
            # A list of many thousands takes most of a second.
            names, listing = await asyncio.to_thread(lambda: (Names(models), encoded(models)))
        except Exception as problem:
            failure = problem if isinstance(problem, ProviderError) else ProviderError("provider_invalid_response")
            self._failure = failure
            self._fetch_again_at = time.monotonic() + min(PAUSE_AFTER_FAILURE, self._keep_seconds)
            logger.warning("the list of models could not be fetched", extra={"code": failure.code})
        else:
            self._listing, self._failure = listing, None
            self._by_name, self._limits = names, {}
            self._fetch_again_at = time.monotonic() + self._keep_seconds


def encoded(models: Sequence[Entry]) -> KeptAnswer:
    return keep(json.dumps({"data": models}, ensure_ascii=False, separators=(",", ":")).encode())


class Names:
    """Finds a model's entry in the list by the name that a caller uses for it."""

    def __init__(self, models: Sequence[Entry]) -> None:
        self.exact = {str(entry.get("id")): entry for entry in models}
        self._only = models[0] if len(models) == 1 else None  # llama.cpp and vLLM serve it whatever the name
        ends = Counter(folded(name).rpartition("/")[2] for name in self.exact)
        self._similar: dict[str, Entry] = {}
        for name, entry in self.exact.items():
            for similar in (folded(name), *_other_names(entry)):
                self._similar.setdefault(similar, entry)
            end = folded(name).rpartition("/")[2]
            if ends[end] == 1:  # asked for without the provider before it (LiteLLM)
                self._similar.setdefault("/" + end, entry)

    def find(self, model: str) -> Entry:
        """The entry; empty where the list has none."""
        found = self.exact.get(model)
        if found is None:
            found = next((entry for name in _spellings(model) if (entry := self._similar.get(name))), self._only)
        return found or {}


def folded(name: str) -> str:
    """Without what does not tell models apart: case, Gemini's “models/”, Ollama's “:latest”."""
    return name.casefold().removeprefix("models/").removesuffix(":latest")


def _other_names(entry: Entry) -> Iterator[str]:
    """What else a list calls a model (OpenRouter; llama.cpp and Mistral)."""
    aliases = entry.get("aliases")
    names = [entry.get("canonical_slug"), *(aliases if isinstance(aliases, list) else ())]
    return (folded(name) for name in names if isinstance(name, str) and name)


def _spellings(model: str) -> Iterator[str]:
    """Names that a list may have for `model`: also without a variant such as OpenRouter's “:nitro”."""
    name = folded(model)
    for variant in dict.fromkeys((name, name.rpartition(":")[0] or name)):
        yield variant
        yield variant.rpartition("/")[2] if "/" in variant else "/" + variant


def _price(pricing: Any, name: str) -> Decimal | None:
    """USD, as OpenRouter writes it. It writes -1 for a price that depends on the request."""
    try:
        price = Decimal(str(pricing[name]))
    except (InvalidOperation, KeyError, TypeError):
        return None
    return price if price.is_finite() and price >= 0 else None
