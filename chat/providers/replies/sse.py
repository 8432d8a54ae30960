"""Reads server-sent events from bytes as they come from the network."""

import json

COLON = ord(":")
MAX_EVENT_BYTES = 8 * 1024 * 1024  # bytes; no completion chunk comes near
ERROR_EVENTS = (b"error", b"exception")


class EventParser:
    """Cuts a byte stream into the `data` of its events.

    It works on bytes, so a character split over two reads, or U+2028 inside a text, breaks no line. It leaves out
    comments, keep-alives (also the `data: : keepalive` of some proxies), other fields and empty events. An event, or a
    field, of the name error becomes a document with the key `error`. Documents need no empty line between them, and
    one may stand there without a field's name. Raises `ValueError` when an event grows beyond `MAX_EVENT_BYTES`.
    """

    __slots__ = ("_close_packed", "_cr", "_data", "_is_error", "_rest", "_size", "_stray")

    is_whole = False  # an event's document may be one of many, and the end may be missing

    def __init__(self) -> None:
        self._rest = bytearray()  # a line whose end has not come yet
        self._data: list[bytes] = []  # the data lines of an event whose end has not come yet
        self._size = 0
        self._is_error = False
        self._cr = False  # the last byte was a carriage return, which a newline may follow
        self._close_packed = False  # this server leaves out the empty lines between documents
        self._stray = bytearray()  # a document without a field's name, which spans lines

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes."""
        if (
            chunk[:5] == b"data:"
            and chunk[-2:] == b"\n\n"
            and not (self._rest or self._data or self._is_error or self._cr)
        ):
            value = chunk[5:-2].strip()
            if value and value[0] != COLON and b"\n" not in value and b"\r" not in value:
                return [value]  # one event in one packet: nearly always
        if self._cr or b"\r" in chunk:
            chunk = self._with_newlines(chunk)
        if b"\n" not in chunk:
            self._rest += chunk
            self._check()
            return []
        lines = (bytes(self._rest) + chunk if self._rest else chunk).split(b"\n")
        self._rest = bytearray(lines.pop())
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                value = line[5:].strip()
                if value and value[0] != COLON:
                    if self._data or self._close_packed:
                        self._part(events, value)
                    self._data.append(value)
                    self._size += len(value)
            elif line:
                self._other_line(events, line)
            else:
                if self._data:
                    events.append(self._event())
                self._is_error = False
        self._check()
        return events

    def finish(self) -> list[bytes]:
        """The events that the body's end completes: some servers leave out the last empty line."""
        if not (self._rest or self._data or self._stray or self._cr):
            return []
        events = self.feed(b"\n\n")
        stray, self._stray = bytes(self._stray), bytearray()
        return [*events, stray] if is_json(stray) else events

    def _with_newlines(self, chunk: bytes) -> bytes:
        chunk = b"\r" + chunk if self._cr else chunk
        self._cr = chunk.endswith(b"\r")
        return chunk.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _part(self, events: list[bytes], value: bytes) -> None:
        """Give out a document that is whole although no empty line followed it."""
        if len(self._data) == 1 and (self._data[0] == b"[DONE]" or is_json(self._data[0])):
            events.append(self._event())
            self._close_packed = True

    def _other_line(self, events: list[bytes], line: bytes) -> None:
        if line.startswith((b":", b"id:", b"retry:")):
            return
        if line.startswith(b"event:"):
            self._is_error = line[6:].strip().lower() in ERROR_EVENTS
        elif line.startswith(b"error:"):
            events.append(_as_error(line[6:].strip()))
        elif not self._stray and is_json(document := line[line.find(b"{") :].strip()):
            events.append(document)  # whatever stands before it: no piece of a reply may be lost
        elif self._stray or line[:1] in (b"{", b"["):
            self._stray += line
            self._size += len(line)

    def _event(self) -> bytes:
        event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._size = len(self._stray)
        return _as_error(event) if self._is_error else event

    def _check(self) -> None:
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError("event too large")


def is_json(data: bytes) -> bool:
    """Whether `data` is one whole document: an object or a list."""
    if data[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _as_error(value: bytes) -> bytes:
    """A document whose `error` is `value`, unless it has one: servers send objects, strings and plain text."""
    try:
        said = json.loads(value.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        said = value.decode("utf-8", "replace")
    if isinstance(said, dict) and said.get("error"):
        return value
    return json.dumps({"error": said or "error"}).encode()
