"""Keeps whole answers for slow readers: small ones in memory, the rest of large ones in a temporary file."""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Any, ClassVar, NoReturn, Self

from django.conf import settings

from web.errors import ApiError

logger = logging.getLogger(__name__)

IN_MEMORY = 1024 * 1024  # bytes of an answer
MAX_IN_MEMORY = 64 * 1024 * 1024  # bytes of all waiting answers of the process; what is more goes to the disk at once
MAX_ON_DISK = 1024**3  # bytes of all waiting answers of the process
PIECE = 65_536  # bytes to read back at once
SEND_SECONDS = 90  # for each piece; who reads nothing at all is gone before (http/connections.py)


class Spool:
    """Keeps the ASGI messages of one answer until it is complete, then sends them.

    So the view never waits for the reader, and nothing of a failed answer has been sent.
    """

    in_memory: ClassVar[int] = 0  # bytes of all spools; only the event loop changes them
    on_disk: ClassVar[int] = 0

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._size = 0
        self._mine_in_memory = self._mine_on_disk = 0
        self._refused = False
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
        Spool.in_memory -= self._mine_in_memory
        Spool.on_disk -= self._mine_on_disk

    async def keep(self, message: Any) -> None:
        """A `send` for Django."""
        body = message.get("body", b"")
        self._size += len(body)
        if self._mine_on_disk == 0 and self._fits_in_memory(len(body)):
            self._messages.append(message)
        else:
            self._take_room(len(body))
            try:
                await asyncio.to_thread(self._write, body)
            except OSError as problem:  # the disk is full
                logger.error("a large answer cannot be kept for its reader", extra={"reason": str(problem)})
                self._refuse()

    def _fits_in_memory(self, size: int) -> bool:
        if self._size > IN_MEMORY or Spool.in_memory + size > MAX_IN_MEMORY:
            return False
        Spool.in_memory += size
        self._mine_in_memory += size
        return True

    def _take_room(self, size: int) -> None:
        if Spool.on_disk + size > MAX_ON_DISK:
            self._refuse()
        Spool.on_disk += size
        self._mine_on_disk += size

    def _refuse(self) -> NoReturn:
        self._refused = True
        raise asyncio.CancelledError  # Django stops and closes the answer on this exception, and not on others

    def _write(self, body: bytes) -> None:
        if self._file is None:
            # Not in /tmp: where that is memory, a spool would save none. It is closed by __exit__.
            self._file = tempfile.TemporaryFile(dir=settings.DATA_DIR)  # noqa: SIM115
        self._file.write(body)

    async def send(self, send: Callable[[Any], Awaitable[None]]) -> None:
        """Raises `ApiError` and sends nothing if the disk had no room for all of it."""
        if self._refused:
            raise ApiError("overloaded", retry_after=SEND_SECONDS)  # readers that take nothing are gone by then
        with contextlib.suppress(TimeoutError):  # a reader that takes less is gone or hostile
            async with asyncio.timeout(SEND_SECONDS) as patience:
                self._tell_length()
                async for message in self._kept():
                    patience.reschedule(asyncio.get_running_loop().time() + SEND_SECONDS)
                    await send(message)
                if self._file is not None:
                    await send({"type": "http.response.body"})

    def _tell_length(self) -> None:
        """The length lets readers notice a cut answer. Django sets none for answers in pieces."""
        start = self._messages[0] if self._messages else {}
        if start.get("status") == 200 and not any(name.lower() == b"content-length" for name, _ in start["headers"]):
            start["headers"] = [*start["headers"], (b"Content-Length", str(self._size).encode())]

    async def _kept(self) -> AsyncIterator[Any]:
        """Everything but the end of what is in the file."""
        for message in self._messages:
            yield message
        if self._file is not None:
            await asyncio.to_thread(self._file.seek, 0)
            while piece := await asyncio.to_thread(self._file.read, PIECE):
                yield {"type": "http.response.body", "body": piece, "more_body": True}
