"""Bodies of requests while they arrive: how long that may take, and how much memory they hold together."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestAborted

from web.errors import ApiError

BODY_SECONDS, LEAST_BYTES_PER_SECOND = 30, 10_000  # in which a body arrives: at once, or as its length needs
MAX_PARTS = 10_000  # of a body: a million of a byte each would take the event loop seconds
SMALL = 16_384  # bytes; so many are in memory for any connection, and not counted
DISCARD_SECONDS, QUIET_SECONDS = 10, 1  # for what comes of a refused body; without any of it
MAX_HELD = 64 * 1024 * 1024  # bytes of all larger bodies that are not complete


async def discard(receive: Callable[[], Awaitable[Any]]) -> None:
    """Read for a while, and keep nothing, of a body that has been refused before it had come.

    Who sends it may look for the answer only when all is sent, and loses it where the connection ends before.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            for _ in range(MAX_PARTS):
                if not (await asyncio.wait_for(receive(), QUIET_SECONDS)).get("more_body"):
                    return


class Body:
    """One body that arrives from `address`."""

    def __init__(self, address: str, patience: asyncio.Timeout) -> None:
        self.address = address
        self.size = 0
        self.given_up = False
        self._patience = patience

    def give_up(self) -> None:
        self.given_up = True
        with contextlib.suppress(RuntimeError):  # its time is over just now
            self._patience.reschedule(0)


class Bodies:
    """All that arrive. Where they are too much for the memory, the oldest of the address with the most ends."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()  # bytes, by address
        self._large: dict[Body, None] = {}  # the oldest first

    async def read(self, receive: Callable[[], Awaitable[Any]], headers: dict[bytes, bytes], address: str) -> bytes:
        """The whole body, of at most MAX_BODY_BYTES. Raises `ApiError`, or `RequestAborted` where the client leaves."""
        length = headers.get(b"content-length", b"")
        if length == b"0" or (not length and b"transfer-encoding" not in headers):
            seconds = None
        else:
            seconds = BODY_SECONDS + (int(length) if length.isdigit() else 0) / LEAST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(seconds) as patience:
                return await self._read(receive, Body(address, patience))
        except TimeoutError:  # what has come of it would stay in memory as long as its sender likes
            raise ApiError("invalid_request", detail_code="slow_body") from None

    async def _read(self, receive: Callable[[], Awaitable[Any]], body: Body) -> bytes:
        content, parts = bytearray(), 0
        try:
            while True:
                parts += 1
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestAborted
                content += message.get("body", b"")
                if len(content) > settings.MAX_BODY_BYTES or parts > MAX_PARTS:
                    raise ApiError("request_too_large")
                if not message.get("more_body"):
                    return bytes(content)
                if len(content) > SMALL:
                    self._hold(body, len(content))
        except asyncio.CancelledError:
            if body.given_up:
                raise ApiError("overloaded", retry_after=BODY_SECONDS) from None
            raise
        finally:
            if body.size:
                self._release(body)

    def _hold(self, body: Body, size: int) -> None:
        self._large[body] = None
        self.held[body.address] += size - body.size
        body.size = size
        while self.held.total() > MAX_HELD + settings.MAX_BODY_BYTES:  # so that one always fits
            greediest = max(self.held, key=self.held.__getitem__)
            oldest = next(other for other in self._large if other.address == greediest)
            self._release(oldest)
            oldest.give_up()

    def _release(self, body: Body) -> None:
        self._large.pop(body, None)
        self.held[body.address] -= body.size
        body.size = 0
        if not self.held[body.address]:
            del self.held[body.address]
