"""Clients that do not read, or do not send, hold nothing for long."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import RequestAborted

from bancobot_project.server import bodies
from bancobot_project.server.application import Exchange
from bancobot_project.server.bodies import Bodies
from bancobot_project.server.headers import Protection
from bancobot_project.server.http import connections
from bancobot_project.server.http.connections import unread_bytes
from bancobot_project.server.http.gunicorn_protocol import BoundedPatience
from bancobot_project.server.spool import PIECE
from chat.engine.listener import MAX_PIECE_CHARS
from testing import scenarios
from testing.client import Caller, events, new_id
from testing.service import Service
from testing.upstream import Upstream
from web.errors import ApiError

MEGABYTE = b"x" * 2**20


class Sender(asyncio.Protocol):
    """Sends megabytes to who connects; notes how that ended."""

    def __init__(self, megabytes: int) -> None:
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._megabytes = megabytes

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=65_536)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self._transport, self._flow = transport, BoundedPatience(transport)
        self._task = asyncio.create_task(self._send())

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()

    async def _send(self) -> None:
        try:
            for _ in range(self._megabytes):
                self._transport.write(MEGABYTE)
                await self._flow.drain()
        except RequestAborted as problem:
            self.ended.set_result(problem)
        else:
            self.ended.set_result(None)


def sent_to(
    client: Callable[[asyncio.StreamReader], Awaitable[object]], megabytes: int, wait: float = 20
) -> BaseException | None:
    async def play() -> BaseException | None:
        senders: list[Sender] = []

        def made() -> Sender:
            senders.append(Sender(megabytes))
            return senders[-1]

        server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], limit=65_536)
        reading = asyncio.ensure_future(client(reader))
        try:
            return await asyncio.wait_for(senders[0].ended, 20)
        finally:
            reading.cancel()
            writer.transport.abort()
            server.close()

    return asyncio.run(play())


async def nothing(reader: asyncio.StreamReader) -> None:
    """A reader who does not read."""


async def slowly(reader: asyncio.StreamReader) -> None:
    """A reader who takes a piece often enough, and never all."""
    while await reader.read(60_000):
        await asyncio.sleep(0)


def test_who_reads_nothing_is_left_and_who_reads_slowly_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.3)
    assert isinstance(sent_to(nothing, 8), RequestAborted)
    assert sent_to(slowly, 2) is None


def test_what_waits_in_the_system_counts_too() -> None:
    async def play(near: socket.socket) -> tuple[int, int]:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        transport.write(MEGABYTE * 8)
        waiting_here = transport.get_write_buffer_size()
        unread = unread_bytes(transport)
        transport.abort()
        return waiting_here, unread

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        near.setblocking(False)
        with far:
            waiting_here, unread = asyncio.run(play(near))
    assert 0 < waiting_here < unread <= len(MEGABYTE) * 8


def test_a_cut_is_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.1)

    async def play(client: socket.socket) -> None:
        senders: list[Sender] = []

        def made() -> Sender:
            senders.append(Sender(8))
            return senders[-1]

        server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        client.connect(server.sockets[0].getsockname())
        while not senders:
            await asyncio.sleep(0.01)
        assert isinstance(await asyncio.wait_for(senders[0].ended, 10), RequestAborted)
        await asyncio.sleep(0.01)
        server.close()

    with socket.socket() as client:
        client.settimeout(10)
        asyncio.run(play(client))
        with pytest.raises(ConnectionResetError):
            while client.recv(65_536):
                pass


def test_a_head_that_does_not_end_is_refused(service: Service) -> None:
    """Each of its fields is short enough, and there are few enough of them."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        for number in range(5):
            connection.sendall(b"X-Field-%d: %b\r\n" % (number, b"x" * 15_000))
        assert b" 431 " in connection.recv(100)


async def never() -> Any:
    await asyncio.sleep(60)


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    for headers in ({b"content-length": b"100"}, {b"transfer-encoding": b"chunked"}):
        with pytest.raises(ApiError) as refused:
            asyncio.run(Bodies().read(never, headers, ""))
        assert (refused.value.code, refused.value.status_code) == ("invalid_request", 400)


def test_bodies_that_arrive_hold_so_much_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD", 0)  # beside one whole body
    half = {"type": "http.request", "body": b"x" * (settings.MAX_BODY_BYTES // 2), "more_body": True}

    async def play() -> list[Any]:
        arriving, tasks = Bodies(), []
        for address in ("innocent", "greedy", "greedy", "greedy"):
            parts = iter([half])

            async def receive(parts: Iterator[Any] = parts) -> Any:
                return next(parts, None) or await never()

            tasks.append(asyncio.create_task(arriving.read(receive, {b"content-length": b"1000000"}, address)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        assert arriving.held.total() <= settings.MAX_BODY_BYTES
        ended = [task.exception() if task.done() else None for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not arriving.held
        return ended

    innocent, *greedy = asyncio.run(play())
    assert innocent is None
    assert [getattr(problem, "code", None) for problem in greedy] == ["overloaded", "overloaded", None]


def test_what_waits_for_a_reader_comes_in_pieces(service: Service, upstream: Upstream) -> None:
    caller, text = Caller(service), "ação 🙂 " * 12_000
    upstream.script(scenarios.ok(text))
    turn_id = caller.chat("Oi", session_id=new_id())["turn_id"]
    deltas = [event for event in events(caller.get(f"/turns/{turn_id}/events").text) if event.name == "delta"]
    assert "".join(event.data["text"] for event in deltas) == text
    assert [len(event.data["text"]) for event in deltas[:-1]] == [MAX_PIECE_CHARS] * (len(text) // MAX_PIECE_CHARS)


def test_an_answer_goes_out_in_pieces() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def play() -> None:
        await exchange.send({"type": "http.response.body", "body": MEGABYTE})

    exchange = Exchange({"path": "/", "method": "GET"}, send, b"", Protection())
    asyncio.run(play())
    assert b"".join(message["body"] for message in sent) == MEGABYTE
    assert max(len(message["body"]) for message in sent) == PIECE
    assert [message.get("more_body", False) for message in sent] == [True] * 16 + [False]
