"""Clients that talk to the service and record its answers in the ledger; and the upstream's replies."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from testing import scenarios
from testing.client import Event, events
from testing.exchange import Exchange
from testing.scenarios import Scenario
from trials.torture.ledger import MARKER, Asked, Ledger

PATIENCE = aiohttp.ClientTimeout(total=90)  # longer than anything here takes, so a hang is detected
RETRY_PAUSE = 0.1
MAX_TRIES = 600
WAITING_HELPS = {"session_busy", "overloaded", "database_unavailable", "provider_unavailable"}


def reply_to(question: str) -> str:
    """The upstream's complete reply to a question. Its marker determines the length: mostly short, sometimes long."""
    marker = MARKER.findall(question)[-1]
    number = int(marker[2:-1])
    words = 4 + number % 17 if number % 6 else 60 + number % 61
    return f"Resposta a {marker}:" + "".join(f" {number}.{place}" for place in range(words))


def answering(interval: float) -> Scenario:
    """Sends `reply_to` the question, with so many seconds between two words."""

    async def play(exchange: Exchange) -> None:
        whole = reply_to(exchange.request.messages[-1]["content"])
        await scenarios.ok(whole, interval=interval)(exchange)

    return play


@dataclass
class Talk:
    """What the clients of a step share. `urls`: services on one database, which retrying clients try in turn."""

    ledger: Ledger
    urls: Sequence[str]
    http: aiohttp.ClientSession
    codes: Counter[str] = field(default_factory=Counter)  # of the errors in answers
    cuts: int = 0
    refused: int = 0  # refused connections
    misshapen: list[str] = field(default_factory=list)  # answers that violate the wire contract

    async def ask(self, session: str, *, stream: bool = False) -> Asked:
        """One question, once."""
        asked = self.ledger.ask(session)
        await self._try(asked, self.urls[0], stream)
        return asked

    async def insist(self, session: str, *, stream: bool = False) -> Asked:
        """One question with a key, repeated until it is answered, like a careful client."""
        asked = self.ledger.ask(session)
        asked.key = f"key-{asked.marker}"
        for attempt in range(MAX_TRIES):
            if await self._try(asked, self.urls[attempt % len(self.urls)], stream):
                break
            await asyncio.sleep(RETRY_PAUSE)
        return asked

    async def _try(self, asked: Asked, url: str, stream: bool) -> bool:
        """Whether the question has been answered: by a reply, or by a permanent error."""
        body = {"message": asked.question, "session_id": asked.session, "stream": stream}
        headers = {"Idempotency-Key": asked.key} if asked.key else {}
        try:
            async with self.http.post(f"{url}/chat", json=body, headers=headers) as answer:
                if answer.content_type == "text/event-stream":
                    return await self._hear(asked, answer)
                return self._read(asked, answer, await answer.read())
        except aiohttp.ClientConnectorError:
            self.refused += 1
        except (aiohttp.ClientError, ConnectionError):
            self.cuts += 1
            asked.cut()
        except TimeoutError:
            self.misshapen.append(f"{asked.marker}: no answer in {PATIENCE.total} s")
        return False

    def _read(self, asked: Asked, answer: aiohttp.ClientResponse, body: bytes) -> bool:
        if answer.status == 200:
            said = json.loads(body)
            asked.answered(said["response"], said["turn_id"])
            return True
        return self._told(asked, answer.status, self.error_in(answer, body))

    def error_in(self, answer: aiohttp.ClientResponse, body: bytes) -> dict[str, Any]:
        """The error object; any other body is a problem."""
        try:
            error = json.loads(body)
            own = error["request_id"] == answer.headers["X-Request-ID"] or "Idempotent-Replayed" in answer.headers
            if error["code"] and error["detail"] and own:
                return dict(error)
        except (ValueError, KeyError, TypeError):
            pass
        self.misshapen.append(f"{answer.method} {answer.url.path}: {answer.status} {body[:300]!r}")
        return {"code": f"misshapen {answer.status}"}

    def _told(self, asked: Asked, status: int, error: dict[str, Any]) -> bool:
        self.codes[error["code"]] += 1
        asked.failed(status, error["code"], error.get("turn_id", ""))
        return error["code"] not in WAITING_HELPS

    async def _hear(self, asked: Asked, answer: aiohttp.ClientResponse) -> bool:
        text = ""
        async for event in self._events(answer):
            if event.name == "start":
                asked.began(event.data["turn_id"])
            elif event.name == "delta":
                text += event.data["text"]
                asked.shows(text)
            elif event.name == "done":
                if text != event.data["response"]:
                    self.misshapen.append(f"{asked.marker} was shown {text!r}, then told {event.data['response']!r}")
                asked.answered(event.data["response"], event.data["turn_id"])
                return True
            elif event.name == "error":
                return self._told(asked, 200, event.data)
        raise ConnectionError("the stream ended without an end")

    @staticmethod
    async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
        waiting = b""
        async for data in answer.content.iter_any():
            whole, separator, waiting = (waiting + data).rpartition(b"\n\n")
            if separator:
                for event in events((whole + separator).decode()):
                    yield event


@asynccontextmanager
async def talking(ledger: Ledger, *urls: str) -> AsyncIterator[Talk]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as http:
        yield Talk(ledger, urls, http)


async def crowd(
    talk: Talk,
    chance: random.Random,
    enough: Callable[[], bool],
    *,
    clients: int,
    keys: float = 0.0,
) -> None:
    """So many clients, each with two sessions of its own, until there is `enough`; some ask for streams.

    `keys`: the share of questions with a key, which are asked again until they are answered.
    """

    async def client(number: int, own: random.Random) -> None:
        while not enough():
            session, stream = f"s{number}.{own.randrange(2)}", own.random() < 0.5
            asked = await (talk.insist if own.random() < keys else talk.ask)(session, stream=stream)
            await asyncio.sleep(0 if asked.told is not None else RETRY_PAUSE * (1 + own.random()))

    await asyncio.gather(*(client(number, random.Random(chance.random())) for number in range(clients)))
