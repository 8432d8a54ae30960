"""uvicorn's connections, without a service behind them: who does not read, or does not send, holds nothing for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from bancobot_project.server.http import connections, uvicorn_protocol
from bancobot_project.server.http import uvicorn as ours
from bancobot_project.server.http.listening import bound
from bancobot_project.server.http.uvicorn_protocol import Protocol


def plain(app: Any) -> uvicorn.Config:
    config = uvicorn.Config(
        app, interface="asgi3", http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
        timeout_keep_alive=60,
    )  # fmt: skip
    config.load()
    return config


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[str, int]]:
    config = plain(app)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, ServerState(), {}, loop), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


def answering(body: bytes) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


async def end_of(address: tuple[str, int], sent: bytes, *, reads: bool = True) -> bytes:
    """What comes until the server closes the connection; an error where it is reset."""
    reader, writer = await asyncio.open_connection(*address, limit=4096)
    try:
        writer.write(sent)
        if reads:
            return await asyncio.wait_for(reader.read(), 5)
        async with asyncio.timeout(5):  # the socket says so, without reading
            while not writer.transport.is_closing():
                await asyncio.sleep(0.02)
                writer.write(b"x")
        raise ConnectionResetError
    finally:
        writer.transport.abort()


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_who_does_not_send_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    async with serving(answering(b"Oi")) as address:
        heads = [end_of(address, sent) for sent in (b"", b"GET", GET[:-2])]
        assert await asyncio.gather(*heads) == [b"", b"", b""]
        assert b"Oi" in await end_of(
            address, GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n")
        )
        reader, writer = await asyncio.open_connection(*address)
        for sent in (GET, GET[:-2]):  # a second request begins, and does not end
            writer.write(sent)
            assert (b"Oi" in await asyncio.wait_for(reader.read(1000), 5)) == (sent == GET)
        writer.close()


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.1)
    async with serving(answering(b"x" * 8_000_000)) as address:
        with pytest.raises(ConnectionResetError):
            await end_of(address, GET, reads=False)
        assert len(await end_of(address, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) > 8_000_000


async def test_of_too_many_idle_connections_the_longest_idle_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Protocol, "most_idle", 2)
    async with serving(answering(b"Oi")) as address:
        first, second, third = [await asyncio.open_connection(*address) for _ in range(3)]
        for reader, writer in (first, second, first, third):
            writer.write(GET)
            while b"Oi" not in await asyncio.wait_for(reader.read(1000), 5):
                pass
        assert (await asyncio.wait_for(second[0].read(), 5)).removeprefix(b"\r\n0\r\n\r\n") == b""
        assert not first[0].at_eof()
        for _, writer in (first, second, third):
            writer.close()


async def test_a_request_ends_after_its_client_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_protocol, "LEFT_SECONDS", 0.05)
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with serving(app) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        await asyncio.sleep(0.02)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_failure_is_told_in_json() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("segredo")

    async with serving(app) as address:
        answer = await end_of(address, GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"internal_error"' in answer
    assert b"segredo" not in answer


async def test_a_listening_socket_that_python_closed_is_opened_again() -> None:
    listener = bound("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        answering(b"Oi"), interface="asgi3", http=Protocol, ws="none", lifespan="off", log_config=None
    )
    server = ours.Server(config, [listener])
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    asyncio.get_running_loop()._stop_serving(listener)  # type: ignore[attr-defined]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await server.on_tick(10)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    assert b"200" in await reader.readline()
    writer.close()
    server.servers[-1].close()
