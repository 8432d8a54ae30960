"""Replies that come in pieces at fixed intervals, to any number of connections, from one timer.

Each piece is its number and the moment at which it was sent, so that a client on the same machine can tell how long it
was on its way: `07@0012345.678901 `. The clock is CLOCK_MONOTONIC, which all processes share.
"""

import asyncio
import re
import time

from trials.bench.wire import chunk

PIECES = 50
PAUSE = 0.02
SLOTS = 20  # connections are spread over a round of PAUSE seconds in so many groups
STAMP = re.compile(rb"(\d\d)@(\d{7}\.\d{6}) ")
SAMPLE = b"%02d@%014.6f " % (0, 0.0)


class Drip:
    """Sends `head` with the first piece and `tail` with the last; `event` is a piece's event, with SAMPLE in it."""

    def __init__(self, head: bytes, event: bytes, tail: bytes) -> None:
        before, sample, after = chunk(event).partition(SAMPLE)
        assert sample
        self.head, self.before, self.after, self.tail = head, before, after, tail
        self.slots: list[list[tuple[asyncio.Transport, int]]] = [[] for _ in range(SLOTS)]
        self.current = 0
        self.streams = 0
        self.next_at = 0.0

    def add(self, transport: asyncio.Transport) -> None:
        """The first piece is sent in PAUSE seconds, and each further one PAUSE seconds after the last."""
        self.slots[self.current - 1].append((transport, 0))
        self.streams += 1
        if self.streams == 1:
            self._sleep(time.monotonic())

    def _sleep(self, now: float) -> None:
        self.next_at = now + PAUSE / SLOTS
        asyncio.get_running_loop().call_at(self.next_at, self._turn)

    def _turn(self) -> None:
        """Serves the slots that are due. A late slot does not delay the next ones."""
        now = time.monotonic()
        due = self.next_at
        while due <= now:
            self._serve(self.current)
            self.current = (self.current + 1) % SLOTS
            due += PAUSE / SLOTS
        if self.streams:
            self._sleep(due - PAUSE / SLOTS)

    def _serve(self, slot: int) -> None:
        waiting, self.slots[slot] = self.slots[slot], []
        for transport, number in waiting:
            if transport.is_closing():
                self.streams -= 1
                continue
            transport.write(self._piece(number))
            if number + 1 < PIECES:
                self.slots[slot].append((transport, number + 1))
            else:
                self.streams -= 1

    def _piece(self, number: int) -> bytes:
        piece = b"%b%02d@%014.6f %b" % (self.before, number, time.monotonic(), self.after)
        if number == 0:
            return self.head + piece
        return piece + self.tail if number == PIECES - 1 else piece
