"""The provider's list of models, kept for a while: one fetch at a time, and a stale list rather than none."""

import asyncio
import logging
import time
from typing import Any

from chat.providers.base import Provider, ProviderError

logger = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = 15.0  # seconds before the next try
FIRST_FETCH_PATIENCE = 2.0  # seconds a turn waits for a list that nobody has seen yet


class Catalogue:
    """What models there are, and what they can take."""

    def __init__(self, provider: Provider, keep_seconds: float) -> None:
        self._provider = provider
        self._keep_seconds = keep_seconds
        self._models: list[dict[str, Any]] | None = None
        self._by_id: dict[str, dict[str, Any]] = {}
        self._fetch_again_at = 0.0
        self._failure: ProviderError | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def models(self, api_key: str | None = None) -> list[dict[str, Any]]:
        """The list; raises `ProviderError` where there has never been one. `api_key`: the caller's own."""
        if time.monotonic() >= self._fetch_again_at:
            await asyncio.shield(self._fetch(api_key))
        if self._models is None:
            raise self._failure or ProviderError("provider_unavailable")
        return self._models

    async def limits(self, model: str, default_context: int) -> tuple[int, int]:
        """The context length of a model and the most tokens that a reply may take."""
        if time.monotonic() >= self._fetch_again_at:
            fetch = self._fetch()
            if self._models is None and self._failure is None:
                await asyncio.wait([fetch], timeout=FIRST_FETCH_PATIENCE)
        entry = self._by_id.get(model, {})
        top = entry.get("top_provider")
        top = top if isinstance(top, dict) else {}
        context = _positive(entry.get("context_length")) or _positive(top.get("context_length")) or default_context
        return context, min(context, _positive(top.get("max_completion_tokens")) or context)

    def _fetch(self, api_key: str | None = None) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._refresh(api_key))
        return self._fetching

    async def _refresh(self, api_key: str | None) -> None:
        try:
            models = await self._provider.models(api_key)
        except ProviderError as failure:
            self._failure = failure
            self._fetch_again_at = time.monotonic() + min(PAUSE_AFTER_FAILURE, self._keep_seconds)
            logger.warning("the list of models could not be fetched", extra={"code": failure.code})
        else:
            self._models, self._failure = models, None
            self._by_id = {str(model.get("id")): model for model in models}
            self._fetch_again_at = time.monotonic() + self._keep_seconds


def _positive(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
