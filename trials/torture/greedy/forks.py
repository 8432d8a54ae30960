"""Requests that cost their caller nothing: copies, sessions without a message, exports and searches."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from trials.torture.greedy.target import Target

AT_ONCE = 12
TURNS, CHARS = 10, 99_000  # of the conversation that is copied and read: a megabyte
SESSION = "copied"

Ask = Callable[[str, str, Mapping[str, object] | None], Awaitable[None]]  # method, path and body


async def flood(target: Target) -> None:
    """Copies of a long conversation, one after the other in so many tasks."""
    await _crowd(target, lambda ask, number: ask("POST", f"/sessions/{SESSION}/fork", {}))


async def flood_of_empty_sessions(target: Target) -> None:
    """Copies of nothing but a system prompt, each of which is a session."""
    await _crowd(target, lambda ask, number: ask("POST", f"/sessions/{SESSION}/fork", {"after_turn": None}))


async def flood_of_settings(target: Target) -> None:
    """The longest system prompts, and metadata, stored over and over."""
    body = {"system_prompt": "é" * CHARS, "metadata": {"a": "x" * 15_000}}
    await _crowd(target, lambda ask, number: ask("PATCH", f"/sessions/{SESSION}", body))


async def flood_of_reads(target: Target) -> None:
    """Exports of a long conversation, and searches that find it."""
    paths = (f"/sessions/{SESSION}/export?format=xes", "/sessions?q=x", f"/sessions/{SESSION}/messages?limit=100")
    await _crowd(target, lambda ask, number: ask("GET", paths[number % len(paths)], None))


async def flood_of_erasures(target: Target) -> None:
    """Sessions that are erased at once, beside so much text that SQLite's file takes long to rewrite."""

    async def come_and_go(ask: Ask, number: int) -> None:
        await ask("POST", f"/sessions/{SESSION}/fork", {"after_turn": None, "session_id": f"gone-{number}"})
        await ask("DELETE", f"/sessions/gone-{number}?erase=true", None)

    await _crowd(target, come_and_go, turns=10 * TURNS)


async def _crowd(target: Target, one: Callable[[Ask, int], Awaitable[None]], turns: int = TURNS) -> None:
    connector, numbers = aiohttp.TCPConnector(limit=0), itertools.count()
    async with aiohttp.ClientSession(target.url, headers=target.headers, connector=connector) as http:

        async def ask(method: str, path: str, body: Mapping[str, object] | None) -> None:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.request(method, path, json=body) as answer:
                    await answer.read()

        async def go_on() -> None:
            while True:
                await one(ask, next(numbers))

        for _ in range(turns):  # its questions are stored, whatever the provider says to them
            await ask("POST", "/chat", {"message": "x " * (CHARS // 2), "session_id": SESSION})
        await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
