"""One request to the scripted upstream, and the connection that its answer goes to."""

import asyncio
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 302: "Found"}


def event(data: dict[str, Any] | str) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return b"data: " + text.encode("utf-8", "surrogatepass") + b"\n\n"


@dataclass
class Request:
    """One recorded request; `headers` in lower case, `body` parsed (None without one)."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any = None
    received_at: float = field(default_factory=time.monotonic)
    status: int | None = None  # the answer's status; None before the answer begins

    @property
    def messages(self) -> list[dict[str, str]]:
        return list(self.body["messages"])


class Exchange:
    """One request and the connection that its answer goes to. Bytes are sent unchanged."""

    def __init__(
        self, request: Request, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request = request
        self.number = number
        self.ended = False
        self.cut = False  # by the scenario, not by the client
        self._reader = reader
        self._writer = writer
        self._chunked = False

    @property
    def gone(self) -> bool:
        """The client has closed the connection."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def start(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Status line and headers; the body follows in chunks."""
        self._chunked = True
        await self.raw(self._head(status, {"Transfer-Encoding": "chunked", **(headers or {})}))

    async def start_stream(self, headers: dict[str, str] | None = None) -> None:
        await self.start(200, {"Content-Type": "text/event-stream", **(headers or {})})

    async def send(self, data: bytes) -> None:
        """A part of the body, in its own packet if the network allows it."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def event(self, data: dict[str, Any] | str) -> None:
        await self.send(event(data))

    async def end(self) -> None:
        if self._chunked:
            await self.raw(b"0\r\n\r\n")
        self.ended = True

    async def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """A whole answer with its length."""
        await self.raw(self._head(status, {"Content-Length": str(len(body)), **headers}) + body)
        self.ended = True

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """End the connection now."""
        self.cut = True
        self._writer.close()

    def reset(self) -> None:
        """End the connection with an RST."""
        self.cut = True
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def until_gone(self) -> None:
        while not self.gone:
            await asyncio.sleep(0.005)

    async def until(self, gate: threading.Event) -> None:
        """Wait until a test opens `gate`, or the client leaves."""
        while not gate.is_set() and not self.gone:
            await asyncio.sleep(0.002)

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        self.request.status = status
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", *(f"{k}: {v}" for k, v in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()
