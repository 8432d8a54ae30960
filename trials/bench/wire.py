"""The little HTTP/1.1 that both ends of the benchmark need: whole messages in, bytes out.

The upstream and the load generator share one core, so they must cost a fraction of what they measure; a full HTTP
library would cost as much as the services under test.
"""

import re
from typing import NamedTuple

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)")
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked")


class HttpMessage(NamedTuple):
    """A request or an answer; `first_line` is the request line or the status line."""

    first_line: bytes
    body: bytes


class Reader:
    """Splits a connection's bytes into whole messages."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[HttpMessage]:
        self._waiting = self._waiting + data if self._waiting else data
        messages = []
        while (message := self._take()) is not None:
            messages.append(message)
        return messages

    def _take(self) -> HttpMessage | None:
        end_of_head = self._waiting.find(b"\r\n\r\n")
        if end_of_head < 0:
            return None
        head = self._waiting[:end_of_head]
        framed = _body(head.lower(), self._waiting, end_of_head + 4)
        if framed is None:
            return None
        body, end = framed
        self._waiting = self._waiting[end:]
        return HttpMessage(head.partition(b"\r\n")[0], body)


def _body(lower_head: bytes, data: bytes, start: int) -> tuple[bytes, int] | None:
    """The body that begins at `start` and the position after it, or None while some of it is missing."""
    if length := CONTENT_LENGTH.search(lower_head):
        end = start + int(length[1])
        return (data[start:end], end) if len(data) >= end else None
    if CHUNKED.search(lower_head):
        return _chunked_body(data, start)
    return b"", start


def _chunked_body(data: bytes, position: int) -> tuple[bytes, int] | None:
    pieces: list[bytes] = []
    while (end_of_size := data.find(b"\r\n", position)) >= 0:
        size = int(data[position:end_of_size].partition(b";")[0], 16)
        end = end_of_size + 2 + size
        if len(data) < end + 2:
            return None
        if size == 0:
            return b"".join(pieces), end + 2
        pieces.append(data[end_of_size + 2 : end])
        position = end + 2
    return None


class StreamedAnswer:
    """One answer as it comes in: `feed` gives the part of the body that came. `ended` once it is whole."""

    def __init__(self) -> None:
        self.first_line = b""
        self.ended = False
        self._waiting = b""
        self._in_body = False
        self._length: int | None = None  # None: the body comes in chunks

    def feed(self, data: bytes) -> bytes:
        self._waiting = self._waiting + data if self._waiting else data
        if not self._in_body and not self._take_head():
            return b""
        return self._take_chunks() if self._length is None else self._take_rest()

    def _take_head(self) -> bool:
        head, end, rest = self._waiting.partition(b"\r\n\r\n")
        if not end:
            return False
        self.first_line, lower = head.partition(b"\r\n")[0], head.lower()
        length = CONTENT_LENGTH.search(lower)
        self._length = int(length[1]) if length else None if CHUNKED.search(lower) else 0
        self._waiting, self._in_body = rest, True
        return True

    def _take_rest(self) -> bytes:
        assert self._length is not None
        part, self._waiting = self._waiting, b""
        self._length -= len(part)
        self.ended = self._length <= 0
        return part

    def _take_chunks(self) -> bytes:
        data, position = self._waiting, 0
        pieces: list[bytes] = []
        while not self.ended and (end_of_size := data.find(b"\r\n", position)) >= 0:
            size = int(data[position:end_of_size].partition(b";")[0], 16)
            end = end_of_size + 2 + size
            if len(data) < end + 2:
                break
            pieces.append(data[end_of_size + 2 : end])
            position = end + 2
            self.ended = size == 0
        self._waiting = data[position:]
        return b"".join(pieces)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def request(method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    )
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer(body: bytes, content_type: str = "application/json", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
