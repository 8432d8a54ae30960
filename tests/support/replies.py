"""Calls of a provider in a plain test: each has its own event loop and provider."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chat.providers import ChatMessage, Options, Piece, Provider, ProviderError, Usage, make_provider
from testing.upstream import Upstream


@dataclass
class Answer:
    """The pieces until the end, and the `error` if there was one."""

    pieces: list[Piece] = field(default_factory=list)
    error: ProviderError | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def last(self) -> Piece:
        return self.pieces[-1]

    @property
    def usage(self) -> Usage:
        assert self.last.usage is not None
        return self.last.usage

    @property
    def failure(self) -> ProviderError:
        assert self.error is not None, f"a complete reply came: {self.text!r}"
        assert not any(piece.finish_reason for piece in self.pieces), "a failed reply was called complete"
        return self.error


def provider_for(upstream: Upstream, kind: str = "openrouter", **settings: Any) -> Provider:
    values: dict[str, Any] = {"base_url": upstream.url, "api_key": "server-key", "default_model": "scripted/small"}
    return make_provider(kind, **{**values, "pause": 0.01, **settings})


async def collect(provider: Provider, messages: Sequence[ChatMessage], options: Options) -> Answer:
    answer = Answer()
    try:
        async for piece in provider.stream(messages, options):
            answer.pieces.append(piece)
    except ProviderError as error:
        answer.error = error
    return answer


def ask(provider: Provider, *texts: str, **options: Any) -> Answer:
    """The reply to a conversation in which user and assistant take turns."""

    async def run() -> Answer:
        messages = [
            ChatMessage("assistant" if index % 2 else "user", text) for index, text in enumerate(texts or ["Oi"])
        ]
        try:
            return await collect(provider, messages, Options(**{"model": "", **options}))
        finally:
            await provider.aclose()

    return asyncio.run(run())


def list_models(provider: Provider) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        try:
            return await provider.models()
        finally:
            await provider.aclose()

    return asyncio.run(run())
