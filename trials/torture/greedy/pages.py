"""A caller who asks for the largest answers that are the same for everybody."""

import asyncio
import contextlib

import aiohttp

from trials.torture.greedy.target import Target

CLIENTS = 16
PAGES = ("/schema", "/schema?format=yaml", "/models", "/docs", "/")


async def flood(target: Target) -> None:
    async with aiohttp.ClientSession(target.url) as http:
        await asyncio.gather(*(ask(http, PAGES[number % len(PAGES)]) for number in range(CLIENTS)))


async def ask(http: aiohttp.ClientSession, path: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(path) as answer:
                await answer.read()
