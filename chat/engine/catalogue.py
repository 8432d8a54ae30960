"""The provider's list of models, kept for a while: one fetch at a time, and an old list rather than none."""

import asyncio
import logging
import time
from decimal import Decimal, InvalidOperation
from typing import Any

from access.budgets import Quote
from access.callers import Limits
from chat.providers.base import Provider, ProviderError

logger = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = 15.0  # seconds before the next attempt
FIRST_FETCH_PATIENCE = 2.0  # seconds that turns wait for the first list


class Catalogue:
    """The models, with their limits and prices."""

    def __init__(self, provider: Provider, keep_seconds: float) -> None:
        self._provider = provider
        self._keep_seconds = keep_seconds
        self._models: list[dict[str, Any]] | None = None
        self._by_id: dict[str, dict[str, Any]] = {}
        self._fetch_again_at = self._began_at = 0.0
        self._failure: ProviderError | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def models(self, api_key: str | None = None) -> list[dict[str, Any]]:
        """The list. Raises `ProviderError` where there has never been one.

        `api_key` is the caller's own, for a provider that shows no list without a key. That list is the caller's alone,
        and is not kept.
        """
        if time.monotonic() >= self._fetch_again_at:
            await asyncio.shield(self._fetch())
        if self._models is not None:
            return self._models
        failure = self._failure or ProviderError("provider_unavailable")
        if api_key and failure.code == "provider_auth_failed":
            return await self._provider.models(api_key)
        raise failure

    async def limits(self, model: str, default_context: int) -> tuple[int, int]:
        """The context length of a model, and the longest reply in tokens."""
        if time.monotonic() >= self._fetch_again_at:
            fetch = self._fetch()
            patience = self._began_at + FIRST_FETCH_PATIENCE - time.monotonic()
            if self._models is None and self._failure is None and patience > 0:
                await asyncio.wait([fetch], timeout=patience)
        entry = self._entry(model)
        top = entry.get("top_provider")
        top = top if isinstance(top, dict) else {}
        context = _positive(entry.get("context_length")) or _positive(top.get("context_length")) or default_context
        return context, min(context, _positive(top.get("max_completion_tokens")) or context)

    async def quote(self, model: str, limits: Limits, default_context: int, max_tokens: int) -> Quote:
        """The most that an owner's turn may use. Without a price from the provider, its cost is unknown."""
        context, most = await self.limits(model, default_context)
        pricing = self._entry(model).get("pricing")
        prompt, completion, request = (_price(pricing, name) for name in ("prompt", "completion", "request"))
        priced = prompt is not None and completion is not None
        zero = Decimal(0)
        prices = prompt or zero, completion or zero, request or zero
        return Quote(limits, context, min(max_tokens, most), *prices, priced)

    def _entry(self, model: str) -> dict[str, Any]:
        """The model's entry in the list. OpenRouter accepts variants (“:nitro”) that are not in it."""
        return self._by_id.get(model) or self._by_id.get(model.rpartition(":")[0], {})

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._began_at = time.monotonic()
            self._fetching = asyncio.create_task(self._refresh())
        return self._fetching

    async def _refresh(self) -> None:
        try:
            models = await self._provider.models()
        except Exception as problem:
            failure = problem if isinstance(problem, ProviderError) else ProviderError("provider_invalid_response")
            self._failure = failure
            self._fetch_again_at = time.monotonic() + min(PAUSE_AFTER_FAILURE, self._keep_seconds)
            logger.warning("the list of models could not be fetched", extra={"code": failure.code})
        else:
            self._models, self._failure = models, None
            self._by_id = {str(model.get("id")): model for model in models}
            self._fetch_again_at = time.monotonic() + self._keep_seconds


def _positive(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _price(pricing: Any, name: str) -> Decimal | None:
    """USD, as OpenRouter writes it. It writes -1 for a price that depends on the request."""
    try:
        price = Decimal(str(pricing[name]))
    except (InvalidOperation, KeyError, TypeError):
        return None
    return price if price.is_finite() and price >= 0 else None
