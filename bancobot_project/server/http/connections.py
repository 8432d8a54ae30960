"""What every HTTP server does with connections: an end for clients that neither read nor send, and errors in JSON."""

import asyncio
import contextlib
import json
import logging
import secrets
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.exceptions import RequestAborted

from bancobot_project.server.headers import protection
from web.errors import ApiError, error_object
from web.logs import request_id

if sys.platform != "win32":
    import fcntl
    import resource
    import termios

logger = logging.getLogger("bancobot.requests")

BACKLOG = 2048  # connections that wait to be accepted
MAX_LINE_BYTES, MAX_FIELD_BYTES, MAX_FIELDS = 8190, 16_380, 100  # of a request's head
MAX_HEAD_BYTES = 64 * 1024  # while it comes
HEAD_SECONDS = 60  # for a connection's first request to arrive, or a later one that has begun
MAX_IDLE = 4096  # connections of a process; and at most a quarter of the files that it may open
UNREAD_SECONDS = 60  # in which a reader takes at least MIN_READ_BYTES of what waits for it
MIN_READ_BYTES = 1024
# Not at all does the system keep what a connection has not sent; the same bytes are right for Windows' shorts.
NOT_AT_ALL = struct.pack("ii", 1, 0)
SEND_BUFFER_BYTES = 128 * 1024  # of the system, for each connection; by itself it takes megabytes for who does not read

CODES = {413: "request_too_large", 414: "request_too_large", 431: "request_too_large", 500: "internal_error"}
CODES |= {503: "overloaded"}
PROTECTION = protection(admin=False, https=False)


def prepare(transport: Any) -> None:
    """A new connection: what waits for its reader is bounded."""
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: what waits behind a connection's end has no task to watch it
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)


def most_idle() -> int:
    """How many connections of this process may wait for their client's next request."""
    if sys.platform == "win32":
        return MAX_IDLE
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_IDLE if files == resource.RLIM_INFINITY else min(MAX_IDLE, files // 4)


async def wait_for_reader(transport: Any, is_full: Callable[[], bool], drain: Callable[[], Awaitable[None]]) -> None:
    """`drain` until there is room again. Raises `RequestAborted` where nobody reads, and closes the connection."""
    while is_full():
        waiting = unread_bytes(transport)
        try:
            async with asyncio.timeout(UNREAD_SECONDS):
                await drain()
        except TimeoutError:
            if waiting - unread_bytes(transport) < MIN_READ_BYTES:
                reset(transport)
                await asyncio.sleep(0)  # the server learns it now, and complains otherwise
                raise RequestAborted from None


def unread_bytes(transport: Any) -> int:
    """What waits here, and in the system, which takes some 100 KB before it asks for more. Windows tells the first."""
    waiting: int = transport.get_write_buffer_size()
    if sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError, AttributeError):  # not everywhere, and not of a closed one
            number = transport.get_extra_info("socket").fileno()
            waiting += int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
    return waiting


def reset(transport: Any) -> None:
    """End the connection so that a cut answer does not look like a whole one, in HTTP/1.0 neither."""
    with contextlib.suppress(OSError, AttributeError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOT_AT_ALL)
    transport.abort()


def refusal(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of the error that a server answers by itself. The log has a line of it."""
    request_id.set(secrets.token_hex(8))
    problem = ApiError(CODES.get(status, "invalid_request"))
    body = json.dumps(error_object(problem), ensure_ascii=False).encode()
    logger.info("no request", extra={"status": status})
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
        (b"X-Request-ID", request_id.get().encode()),
    ]
    return [*headers, *PROTECTION], body
