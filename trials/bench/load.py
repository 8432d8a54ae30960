"""The load generator: clients that keep conversations over raw HTTP, and a tally of what they were told.

A client keeps a conversation for `CONVERSATION_TURNS` turns, then begins another one. The history that goes upstream
with a turn is thereby 0, 2, … 40 messages long, 20 on average.
"""

import asyncio
import json
import statistics
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from trials.bench.upstream import MODEL, REPLY
from trials.bench.wire import HttpMessage, Reader, request

CONVERSATION_TURNS = 21
QUESTION = "Qual é o limite do Pix à noite, e como peço um limite maior no aplicativo?"
MAX_FAILURES = 1000
ENDLESS = 1_000_000  # turns


class TurnFailed(Exception):
    """A turn with a wrong answer; the message says why."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one running request."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reader = Reader()
        self.waiting: asyncio.Future[HttpMessage] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self.reader.feed(data):
            if self.waiting is not None and not self.waiting.done():
                self.waiting.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(TurnFailed(f"connection lost: {exc}"))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def ask(self, raw_request: bytes) -> HttpMessage:
        if self.transport is None:
            raise TurnFailed("connection closed")
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(raw_request)
        return await self.waiting


async def ask_once(port: int, method: str, path: str, body: object = None) -> dict[str, object]:
    """A JSON call outside the measurement."""
    connection = await Connection.open(port)
    try:
        encoded = b"" if body is None else json.dumps(body).encode()
        message = await asyncio.wait_for(connection.ask(request(method, path, encoded)), 10)
    finally:
        connection.close()
    if b" 200 " not in message.first_line:
        raise TurnFailed(f"{method} {path}: {message.first_line.decode()}")
    answer: dict[str, object] = json.loads(message.body)
    return answer


@dataclass
class CallCounts:
    """The clients' answers. `messages`: what the upstream must have received for the acknowledged turns."""

    acknowledged: int = 0
    messages: int = 0
    unanswered: int = 0
    failures: list[str] = field(default_factory=list)
    turns: list[tuple[float, float, int]] = field(default_factory=list)  # finished at, seconds it took, history
    pieces: "array[float]" = field(default_factory=lambda: array("d"))  # arrived at, delay, arrived at, delay, …

    def between(self, start: float, end: float) -> "Window":
        turns = [turn for turn in self.turns if start <= turn[0] < end]
        pieces = zip(self.pieces[::2], self.pieces[1::2], strict=True)
        delays = sorted(delay for arrived, delay in pieces if start <= arrived < end)
        histories = [history for _, _, history in turns]
        return Window(end - start, sorted(seconds for _, seconds, _ in turns), histories, delays)


@dataclass
class Window:
    """The answered turns and arrived pieces while the clock ran. Seconds, ascending."""

    seconds: float
    latencies: list[float]
    histories: list[int]
    delays: list[float] = field(default_factory=list)

    @property
    def turns_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def mean_history(self) -> float:
        return statistics.fmean(self.histories) if self.histories else 0.0


def percentile(ascending: Sequence[float], share: float) -> float:
    """0 where there is nothing."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else 0.0


class Client:
    """Somebody who sends a message, waits for the reply, and sends the next.

    `held` messages are in the session so far; at most `most_sent` of them go upstream.
    """

    connection_class: type[Connection] = Connection

    def __init__(self, port: int, tally: CallCounts, *, path: str = "/chat", most_sent: int | None = None) -> None:
        self.key = ""  # of a client, where the service asks for one
        self.port = port
        self.tally = tally
        self.path = path
        self.most_sent = most_sent
        self.conversation_turns = CONVERSATION_TURNS
        self.connection: Connection | None = None
        self.session_id: str | None = None
        self.held = 0
        self.stopping = False

    def raw_request(self) -> bytes:
        return request("POST", self.path, self.body(), self.key)

    def body(self, **more: object) -> bytes:
        body = {"message": QUESTION, "model": MODEL, **more}
        if self.session_id is not None:
            body["session_id"] = self.session_id
        return json.dumps(body, ensure_ascii=False).encode()

    def read(self, message: HttpMessage) -> None:
        """Checks the answer: the status, the exact text, and the conversation's id."""
        if b" 200 " not in message.first_line:
            raise TurnFailed(f"{message.first_line.decode()}: {message.body[:200].decode(errors='replace')}")
        answer = json.loads(message.body)
        if answer["response"] != REPLY or self.session_id not in (None, answer["session_id"]):
            raise TurnFailed(f"wrong answer: {message.body[:200].decode(errors='replace')}")
        self.session_id = answer["session_id"]

    async def turn(self) -> None:
        try:
            if self.connection is None or self.connection.transport is None:
                self.connection = await self.connection_class.open(self.port)
            start = time.monotonic()
            self.read(await self.connection.ask(self.raw_request()))
            self.acknowledge(start)
        except (TurnFailed, OSError, ValueError, LookupError) as error:
            self.tally.failures.append(f"{type(error).__name__}: {error}")
            self.disconnect()
            self.session_id, self.held = None, 0
            await asyncio.sleep(0.1)  # a service that refuses everything must not keep this process busy

    def acknowledge(self, start: float) -> None:
        history = self.held if self.most_sent is None else min(self.held, self.most_sent)
        now = time.monotonic()
        self.tally.turns.append((now, now - start, history))
        self.tally.acknowledged += 1
        self.tally.messages += history + 1
        self.held += 2
        if self.held >= 2 * self.conversation_turns:
            self.session_id, self.held, self.conversation_turns = None, 0, CONVERSATION_TURNS

    async def talk(self, wait: float = 0.0) -> None:
        await asyncio.sleep(wait)
        while not self.stopping and len(self.tally.failures) < MAX_FAILURES:
            await self.turn()

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def take_up(self, session_id: str, held: int) -> None:
        """Continues without an end in a session with so many messages."""
        self.session_id, self.held, self.conversation_turns = session_id, held, ENDLESS


def direct_request() -> bytes:
    """A service's request upstream, with the average history."""
    question = {"role": "user", "content": QUESTION}
    messages = [question, {"role": "assistant", "content": REPLY}] * 10 + [question]
    return request("POST", "/v1/chat/completions", json.dumps({"model": MODEL, "messages": messages}).encode())


class DirectClient(Client):
    """Asks the upstream directly: the limit of load generator and upstream."""

    def raw_request(self) -> bytes:
        return direct_request()

    def read(self, message: HttpMessage) -> None:
        if json.loads(message.body)["choices"][0]["message"]["content"] != REPLY:
            raise TurnFailed("wrong answer from the upstream")


def stagger(clients: Sequence[Client]) -> None:
    """First conversations of different lengths, so that the next ones don't all begin at the same moment."""
    for number, client in enumerate(clients):
        client.conversation_turns = 1 + number % CONVERSATION_TURNS


async def finish(clients: Sequence[Client], tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Waits for running turns to end; after `seconds` the others count as unanswered."""
    for client in clients:
        client.stopping = True
    _, unfinished = await asyncio.wait(tasks, timeout=seconds)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if clients:
        clients[0].tally.unanswered += len(unfinished)
    for client in clients:
        client.disconnect()
