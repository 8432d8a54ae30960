"""Thousands of messages to one session that is busy."""

import asyncio
import contextlib
import itertools
import random

import aiohttp

from trials.torture.greedy.target import Target

MESSAGES = 3005  # at once
PAUSE_SECONDS = 5.0, 20.0  # before a client that was refused tries again


async def flood(target: Target) -> None:
    """So many clients write to the session, and try again when they are refused."""
    numbers = itertools.count()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(target.url, headers=target.headers, connector=connector) as http:

        async def insist() -> None:
            while True:
                asked = {"message": f"slow {next(numbers)}", "session_id": "busy"}
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.post("/chat", json=asked) as answer:
                        await answer.read()
                await asyncio.sleep(random.uniform(*PAUSE_SECONDS))

        await asyncio.gather(*(insist() for _ in range(MESSAGES)))
