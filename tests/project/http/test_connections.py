"""Connections without a request: how long they are kept, what they cost, and how they end when the service stops."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config

from bancobot_project.server.http import connections, gunicorn_protocol
from bancobot_project.server.http.gunicorn import QuietLogger
from bancobot_project.server.http.gunicorn_protocol import Connections, Protocol
from testing import scenarios
from testing.client import Caller
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Play = Callable[[Any, Callable[[], Awaitable[Client]]], Awaitable[None]]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"2")]})
    await send({"type": "http.response.body", "body": b"Oi"})


def worker_with(keep_alive: int = 75) -> Any:
    """What our protocol needs of gunicorn's worker."""
    config = Config()
    config.set("keepalive", keep_alive)
    return SimpleNamespace(
        cfg=config, log=QuietLogger(config), asgi=answer, loop=asyncio.get_running_loop(), alive=True,
        nr=0, nr_conns=0, max_requests=1000, connections=Connections(),
    )  # fmt: skip


def with_clients(play: Play, **keep: int) -> None:
    """Runs `play` with a worker that listens, and a way to connect to it."""

    async def run() -> None:
        worker, opened = worker_with(**keep), []
        server = await asyncio.get_running_loop().create_server(lambda: Protocol(worker), "127.0.0.1", 0)

        async def connect() -> Client:
            opened.append(await asyncio.open_connection(*server.sockets[0].getsockname()[:2]))
            return opened[-1]

        try:
            await asyncio.wait_for(play(worker, connect), 20)
        finally:
            for _, writer in opened:
                writer.close()
            server.close()

    asyncio.run(run())


async def ask(client: Client, request: bytes = GET) -> bytes:
    """The head of the answer."""
    reader, writer = client
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)
    return head


def test_a_connection_whose_first_request_does_not_come_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)

    async def play(worker: Any, connect: Any) -> None:
        clients = [await connect() for _ in range(3)]
        for (_, writer), sent in zip(clients, (b"", b"GET", GET[:30]), strict=True):
            writer.write(sent)
        assert [await reader.read() for reader, _ in clients] == [b""] * 3

    with_clients(play)


def test_an_idle_connection_is_closed_in_time_and_one_whose_request_has_begun_is_not() -> None:
    async def play(worker: Any, connect: Any) -> None:
        idle, begun = await connect(), await connect()
        for one in (idle, begun):
            assert (await ask(one)).startswith(ANSWER)
        assert len(worker.connections.idle) == 2
        begun[1].write(GET[:20])
        assert await idle[0].read() == b""  # a second later
        assert (await ask(begun, GET[20:])).startswith(ANSWER)

    with_clients(play, keep_alive=1)


def test_a_later_request_that_does_not_come_whole_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)

    async def play(worker: Any, connect: Any) -> None:
        for first in (GET, GET + GET[:9]):  # alone, and with the beginning of the next one
            client = await connect()
            await ask(client, first)
            if first == GET:
                client[1].write(GET[:9])
            assert await client[0].read() == b""
        assert worker.connections.all == set()
        assert worker.nr_conns == 0

    with_clients(play)


def test_of_too_many_idle_connections_the_longest_idle_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_IDLE", 2)

    async def play(worker: Any, connect: Any) -> None:
        first, second, third = [await connect() for _ in range(3)]
        for one in (first, second, first, third):
            await ask(one)
        assert await second[0].read() == b""
        for one in (first, third):
            assert (await ask(one)).startswith(ANSWER)

    with_clients(play)


def test_no_request_that_has_come_is_cut_off_at_the_end_of_the_time_or_of_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(worker: Any, connect: Any) -> None:
        first, second, third = [await connect() for _ in range(3)]
        for one in (first, second):
            await ask(one)
        monkeypatch.setattr(worker.connections, "_most", 1)
        longest, _ = worker.connections.idle
        for one in (first, second):
            socket_of(one).send(GET)
        longest._keepalive_timeout()
        worker.connections.add_idle(longest)
        for one in (first, second, third):
            assert (await ask(one, GET if one is third else b"")).startswith(ANSWER)

    with_clients(play)


def test_a_stop_closes_idle_connections_and_hears_whom_it_cannot_have_heard_yet() -> None:
    async def play(worker: Any, connect: Any) -> None:
        idle, asking, begun, new = [await connect() for _ in range(4)]
        for one in (idle, asking, begun):
            await ask(one)
        begun[1].write(GET[:20])
        await asyncio.sleep(0.02)
        socket_of(asking).send(GET)  # it has come, and the event loop has not looked yet
        worker.alive = False
        worker.connections.stop()
        assert await idle[0].read() == b""
        heard = [await ask(asking, b""), await ask(begun, GET[20:]), await ask(new)]
        assert all(head.startswith(ANSWER) and b"\r\nConnection: close\r\n" in head for head in heard)
        assert [await one[0].read() for one in (asking, begun, new)] == [b""] * 3

    with_clients(play)


def socket_of(client: Client) -> socket.socket:
    found: socket.socket = client[1].get_extra_info("socket")._sock
    return found


def test_a_stop_waits_for_no_request_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunicorn_protocol, "LAST_HEAD_SECONDS", 0.1)

    async def play(worker: Any, connect: Any) -> None:
        begun, late = await connect(), await connect()
        await ask(begun)
        begun[1].write(GET[:20])
        await asyncio.sleep(0.02)
        worker.alive = False
        worker.connections.stop()
        after = await connect()
        for reader, _ in (begun, late, after):
            assert await reader.read() == b""

    with_clients(play)


def test_a_stop_closes_idle_connections_begins_no_turn_and_still_tells_known_answers(
    make_service: MakeService, upstream: Upstream
) -> None:
    service, gate = make_service(), threading.Event()
    caller, key = Caller(service), {"Idempotency-Key": "k"}
    known = caller.call("POST", "/chat", json={"message": "Oi"}, headers=key).content
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool, ExitStack() as opened:
        running = pool.submit(caller.post, "/chat", message="Oi")
        idle = [opened.enter_context(kept(service)) for _ in range(200)]
        begun = [(idle.pop(), chat(caller, headers)) for headers in ("", "Idempotency-Key: k\r\n")]
        for client, request in begun:
            client.sendall(request[:30])
        upstream.wait_until(lambda: upstream.count == 2)
        assert service.process is not None
        service.process.terminate()
        began = time.monotonic()
        assert {client.recv(1) for client in idle} == {b""}
        assert time.monotonic() - began < 10  # not by KEEP_ALIVE_SECONDS
        for client, request in begun:
            client.sendall(request[30:])
        refused, told = (heard(client) for client, _ in begun)
        assert (refused.status, json.loads(refused.read())["code"]) == (503, "overloaded")
        assert (told.status, told.read()) == (200, known)
        gate.set()
        answered = running.result()
    assert (answered.json()["response"], answered.headers["connection"]) == ("Enfim", "close")
    assert service.process.wait(45) == 0
    assert upstream.count == 2


def kept(service: Service) -> socket.socket:
    """A connection that has had its answer."""
    client = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    client.sendall(GET)
    heard(client).read()
    return client


def chat(caller: Caller, headers: str) -> bytes:
    head = f"POST /chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {caller.key}\r\n{headers}"
    return f'{head}Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{{"message": "Oi"}}'.encode()


def heard(client: socket.socket) -> HTTPResponse:
    answer = HTTPResponse(client)
    answer.begin()
    return answer


def test_who_is_refused_before_all_has_come_gets_the_answer_and_may_send_the_rest(front: Service) -> None:
    """A proxy would not use the connection again, and one that sends everything first would still get the answer."""
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.port)) as connection:
        connection.settimeout(20)
        connection.sendall(head + b"x")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        for _ in range(8):
            connection.sendall(b"x" * 1_000_000)
        connection.sendall(b"x" * 999_999)
        assert json.load(answer)["code"] == "request_too_large"
        assert connection.recv(1) == b""
