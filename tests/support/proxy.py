"""A small HTTP proxy on loopback: CONNECT, and plain HTTP with the whole address in the first line."""

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """Sends everything to 127.0.0.1, whatever the host's name is. `answer` replaces what it would do, and hangs up."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.heads: list[str] = []  # of all requests that it saw
        self.answer: bytes | None = None
        self.port = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def url(self, login: str = "") -> str:
        return f"{'https' if self._tls else 'http'}://{login}127.0.0.1:{self.port}"

    def clear(self) -> None:
        self.heads.clear()
        self.answer = None

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode("latin-1"))
                if self.answer is not None:
                    writer.write(self.answer)
                    await writer.drain()
                    return None
                method, target, _ = head.split(b" ", 2)
                if method == b"CONNECT":
                    return await self._tunnel(target, reader, writer)
                await self._forward(head, reader, writer)

    async def _tunnel(self, target: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", int(target.rpartition(b":")[2]))
        writer.write(CONNECTED)
        with contextlib.closing(back):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async def _forward(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer; the connection of the client is used again, as proxies do."""
        method, target, rest = head.split(b" ", 2)
        authority, _, path = target.removeprefix(b"http://").partition(b"/")
        lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"proxy-")]
        length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        there, back = await asyncio.open_connection("127.0.0.1", int(authority.rpartition(b":")[2]))
        with contextlib.closing(back):
            back.write(method + b" /" + path + b" " + b"\r\n".join(lines) + await reader.readexactly(length))
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
                if data.endswith(b"0\r\n\r\n"):
                    return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
