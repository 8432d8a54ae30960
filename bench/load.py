"""The load generator: clients that keep conversations over raw HTTP, and a tally of what they were told.

A client keeps a conversation for `CONVERSATION_TURNS` turns, then begins another one. The history that goes upstream
with a turn is thereby 0, 2, … 40 messages long, 20 on average.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.upstream import MODEL, REPLY
from bench.wire import HttpMessage, Reader, request

CONVERSATION_TURNS = 21
QUESTION = "Qual é o limite do Pix à noite, e como peço um limite maior no aplicativo?"
MAX_FAILURES = 1000
PREFILL_CLIENTS = 32


class TurnFailed(Exception):
    """A turn that was not answered as it must be; the message says how."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reader = Reader()
        self.waiting: asyncio.Future[HttpMessage] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
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
class Tally:
    """What the clients were told. `messages` is what the upstream must have been sent for the acknowledged turns."""

    acknowledged: int = 0
    messages: int = 0
    unanswered: int = 0
    failures: list[str] = field(default_factory=list)
    turns: list[tuple[float, float, int]] = field(default_factory=list)  # finished at, seconds it took, history

    def between(self, start: float, end: float) -> "Window":
        turns = [turn for turn in self.turns if start <= turn[0] < end]
        return Window(end - start, sorted(seconds for _, seconds, _ in turns), [history for _, _, history in turns])


@dataclass
class Window:
    """The turns that were answered while the clock ran. `latencies` in seconds, ascending."""

    seconds: float
    latencies: list[float]
    histories: list[int]

    @property
    def turns_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def mean_history(self) -> float:
        return statistics.fmean(self.histories) if self.histories else 0.0

    def percentile(self, share: float) -> float:
        """Seconds; 0 where nothing was answered."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] if self.latencies else 0.0


class Client:
    """Somebody who sends a message, waits for the reply, and sends the next."""

    def __init__(self, port: int, tally: Tally, conversation_turns: int = CONVERSATION_TURNS) -> None:
        self.port = port
        self.tally = tally
        self.conversation_turns = conversation_turns
        self.connection: Connection | None = None
        self.session_id: str | None = None
        self.turns_in_session = 0
        self.stopping = False

    def raw_request(self) -> bytes:
        body = {"message": QUESTION, "model": MODEL}
        if self.session_id is not None:
            body["session_id"] = self.session_id
        return request("POST", "/chat", json.dumps(body, ensure_ascii=False).encode())

    def read(self, message: HttpMessage) -> None:
        """Checks the answer: the status, the text to the letter, and that the conversation is the same."""
        if b" 200 " not in message.first_line:
            raise TurnFailed(f"{message.first_line.decode()}: {message.body[:200].decode(errors='replace')}")
        answer = json.loads(message.body)
        if answer["response"] != REPLY or self.session_id not in (None, answer["session_id"]):
            raise TurnFailed(f"wrong answer: {message.body[:200].decode(errors='replace')}")
        self.session_id = answer["session_id"]

    async def turn(self) -> None:
        try:
            if self.connection is None or self.connection.transport is None:
                self.connection = await Connection.open(self.port)
            start = time.perf_counter()
            self.read(await self.connection.ask(self.raw_request()))
            self.acknowledge(start)
        except (TurnFailed, OSError, ValueError, KeyError) as error:
            self.tally.failures.append(f"{type(error).__name__}: {error}")
            self.session_id, self.turns_in_session = None, 0
            await asyncio.sleep(0.1)  # a service that refuses everything must not keep this process busy

    def acknowledge(self, start: float) -> None:
        history = 2 * self.turns_in_session
        now = time.perf_counter()
        self.tally.turns.append((now, now - start, history))
        self.tally.acknowledged += 1
        self.tally.messages += history + 1
        self.turns_in_session += 1
        if self.turns_in_session >= self.conversation_turns:
            self.session_id, self.turns_in_session, self.conversation_turns = None, 0, CONVERSATION_TURNS

    async def talk(self, wait: float = 0.0) -> None:
        await asyncio.sleep(wait)
        while not self.stopping and len(self.tally.failures) < MAX_FAILURES:
            await self.turn()

    def reconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class DirectClient(Client):
    """Asks the upstream itself, with the average history: what the load generator and the upstream can do."""

    def raw_request(self) -> bytes:
        question = {"role": "user", "content": QUESTION}
        messages = [question, {"role": "assistant", "content": REPLY}] * 10 + [question]
        body = json.dumps({"model": MODEL, "messages": messages}, ensure_ascii=False).encode()
        return request("POST", "/v1/chat/completions", body)

    def read(self, message: HttpMessage) -> None:
        if json.loads(message.body)["choices"][0]["message"]["content"] != REPLY:
            raise TurnFailed("wrong answer from the upstream")


def make_clients(port: int, tally: Tally, count: int) -> list[Client]:
    """Their first conversations differ in length, so that they don't all begin the next one at the same moment."""
    clients = [Client(port, tally) for _ in range(count)]
    for number, client in enumerate(clients):
        client.conversation_turns = 1 + number % CONVERSATION_TURNS
    return clients


async def prefill(clients: Sequence[Client], turns: int, seconds: float) -> None:
    """Runs `turns` turns in every client's session; not being ready after `seconds` counts as a failure."""
    waiting = iter(clients)

    async def work() -> None:
        for client in waiting:
            for _ in range(turns):
                await client.turn()
            client.reconnect()  # a server closes a connection that idles until the measurement begins

    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(work() for _ in range(PREFILL_CLIENTS)))
    except TimeoutError:
        clients[0].tally.failures.append(f"the sessions were not filled within {seconds:.0f} s")


async def finish(clients: Sequence[Client], tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Lets the turns under way end; those that don't within `seconds` are given up and counted as unanswered."""
    for client in clients:
        client.stopping = True
    _, unfinished = await asyncio.wait(tasks, timeout=seconds)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if clients:
        clients[0].tally.unanswered += len(unfinished)
    for client in clients:
        client.reconnect()
