"""Long messages of words that nobody said before, searched at once, and taken back by the dozen."""

import asyncio
import contextlib
import itertools
import random

import aiohttp

from trials.torture.greedy.target import Target

AT_ONCE = 4
CHARS = 99_000  # of a message
TURNS = 12  # before they are all superseded
LETTERS = "abcdefghijklmnopqrstuvwxyz"


async def flood(target: Target) -> None:
    """Each task fills a conversation, searches in it, and begins it anew, so that all of it is superseded."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(target.url, headers=target.headers, connector=connector) as http:
        await asyncio.gather(*(talk(http, number) for number in range(AT_ONCE)))


async def talk(http: aiohttp.ClientSession, number: int) -> None:
    chance = random.Random(number)
    for turn in itertools.count():
        asked = {"message": said(chance), "session_id": f"long-{number}"}
        with contextlib.suppress(aiohttp.ClientError):
            anew = {"after_turn": None} if turn % TURNS == 0 and turn else {}
            async with http.post("/chat", json=asked | anew) as answer:
                await answer.read()
            async with http.get("/sessions", params={"q": asked["message"][:3]}) as answer:
                await answer.read()


def said(chance: random.Random) -> str:
    """Words of eight letters, as good as all of them new: the most work for an index."""
    letters = "".join(chance.choices(LETTERS, k=8 * CHARS // 9))
    return " ".join(letters[place : place + 8] for place in range(0, len(letters), 8))
