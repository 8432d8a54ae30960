"""A client that may disconnect at any moment: one request per connection, read as far as the step wants."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from testing.client import Event, events

PATIENCE = 60.0  # seconds; longer than any answer may take, so a hang is detected
NO_LINGER = struct.pack("ii", 1, 0)  # close() then sends an RST
MAX_UNREAD_BYTES = 16 * 1024 * 1024  # bytes that may wait to be read

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, or nothing if it is not a JSON object."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}

    @property
    def code(self) -> str:
        """The machine-readable code of an error; empty in a good answer."""
        return str(self.json.get("code", ""))

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[Event]:
        return [event for event in events(self.body.decode()) if event.name != ":"]

    def __str__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Exchange:
    """A sent request, and the connection of its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    def send(self, data: bytes) -> None:
        """Writes `data` without waiting until it is sent."""
        self._writer.write(data)

    async def head(self) -> int:
        """Reads status and headers; ConnectionError if the server disconnects."""
        try:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            raise ConnectionError("no answer") from None
        self.status = int(lines[0].split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return self.status

    async def answer(self) -> Answer:
        """The answer to its end."""
        await self.head()
        body = b"".join([data async for data in self._chunks()])
        return Answer(self.status, self.headers, body)

    async def events(self) -> AsyncGenerator[Event]:
        """Yields each complete event; the head has been read before."""
        waiting = b""
        async for data in self._chunks():
            whole, separator, waiting = (waiting + data).rpartition(b"\n\n")
            if separator:
                for event in events((whole + separator).decode()):
                    if event.name != ":":
                        yield event

    async def _chunks(self) -> AsyncGenerator[bytes]:
        try:
            if "chunked" not in self.headers.get("transfer-encoding", ""):
                yield await self._reader.readexactly(int(self.headers.get("content-length", "0")))
                return
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                yield (await self._reader.readexactly(size + 2))[:size]
        except asyncio.IncompleteReadError:
            raise ConnectionError("the answer was cut short") from None

    def leave(self, *, reset: bool = False) -> None:
        """Disconnect now, with an RST if wanted."""
        if reset:
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._writer.transport.abort()
        else:
            self._writer.close()


class Client:
    """A user of the service, with their own provider's key, or without a key in open mode."""

    def __init__(self, port: int, key: str = "") -> None:
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def connect(self) -> Exchange:
        return Exchange(*await asyncio.open_connection("127.0.0.1", self.port, limit=MAX_UNREAD_BYTES))

    async def begin(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Exchange:
        """Sends a request; the caller may read the answer."""
        exchange = await self.connect()
        exchange.send(self.request(method, path, body, headers))
        return exchange

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        fields = {"Host": "127.0.0.1", "Connection": "close", **self.headers, **(headers or {})}
        if content:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The whole answer, within `PATIENCE`."""
        async with asyncio.timeout(PATIENCE):
            exchange = await self.begin(method, path, body, headers)
            try:
                return await exchange.answer()
            finally:
                exchange.leave()

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)


async def at_most(limit: int, work: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results of all, with so many running at a time."""
    places = asyncio.Semaphore(limit)

    async def run(one: Awaitable[Result]) -> Result:
        async with places:
            return await one

    return await asyncio.gather(*(run(one) for one in work))
