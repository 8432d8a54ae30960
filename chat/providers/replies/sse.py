"""Reads server-sent events from bytes as they come from the network."""

COLON = ord(":")
MAX_EVENT_BYTES = 8 * 1024 * 1024  # bytes; no completion chunk comes near


class EventParser:
    """Cuts a byte stream into the `data` of its events.

    It works on bytes, so a character split over two reads, or U+2028 inside a text, breaks no line. It leaves out
    comments, keep-alives (also the `data: : keepalive` of some proxies), other fields and empty events. Raises
    `ValueError` when an event grows beyond `MAX_EVENT_BYTES`.
    """

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = bytearray()  # a line whose end has not come yet
        self._data: list[bytes] = []  # the data lines of an event whose end has not come yet
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes."""
        if b"\n" not in chunk:
            self._rest += chunk
            self._check()
            return []
        lines = (bytes(self._rest) + chunk if self._rest else chunk).split(b"\n")
        self._rest = bytearray(lines.pop())
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                value = line[5:].strip()  # a CR goes too; in JSON no space at the end of a line means anything
                if value and value[0] != COLON:
                    self._data.append(value)
                    self._size += len(value)
            elif self._data and (not line or line == b"\r"):
                events.append(self._event())
        self._check()
        return events

    def finish(self) -> list[bytes]:
        """The events that the body's end completes: some servers leave out the last empty line."""
        return self.feed(b"\n\n")

    def _event(self) -> bytes:
        event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._size = 0
        return event

    def _check(self) -> None:
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError("event too large")
