"""gunicorn's protocol with our errors, and with an end for clients that neither read nor send.

A connection without a request is kept for KEEP_ALIVE_SECONDS, and costs memory alone: when the worker stops, or has too
many of them, it is closed at once.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import resource
import secrets
import socket
import struct
import sys
import termios
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestAborted
from gunicorn.asgi.protocol import _REASON_PHRASES, ASGIProtocol, FlowControl

from bancobot_project.server.headers import protection
from web.errors import ApiError, error_object
from web.logs import request_id

logger = logging.getLogger("bancobot.requests")

CODES = {414: "request_too_large", 431: "request_too_large", 500: "internal_error"}
PROTECTION = b"".join(b"%b: %b\r\n" % header for header in protection(admin=False, https=False))
# gunicorn calls every other status “Unknown”, 402 for one, and that is all that some clients show.
_REASON_PHRASES.update({int(status): status.phrase for status in HTTPStatus if status not in _REASON_PHRASES})
MAX_HEAD_BYTES = 64 * 1024  # while it comes: gunicorn's limits for single fields allow megabytes
HEAD_SECONDS = 60  # for a connection's first request to arrive, or a later one that has begun
LAST_HEAD_SECONDS = 2  # the same while the worker stops
NEW_SECONDS = 1  # in which most clients send what they have connected for
MAX_IDLE = 4096  # connections of a worker; and at most a quarter of the files that it may open
UNREAD_SECONDS = 60  # in which a reader takes at least MIN_READ_BYTES of what waits for it
MIN_READ_BYTES = 1024
NOT_AT_ALL = struct.pack("ii", 1, 0)  # does the system keep what a connection has not sent
SEND_BUFFER_BYTES = 128 * 1024  # of the system, for each connection; by itself it takes megabytes for who does not read


class BoundedPatience(FlowControl):
    """Waits for a reader as long as it reads."""

    async def drain(self) -> None:
        """Wait until there is room again. Raises `RequestAborted` where nobody reads, and closes the connection."""
        while self.write_paused:
            waiting = self._unread_bytes()
            try:
                async with asyncio.timeout(UNREAD_SECONDS):
                    await super().drain()
            except TimeoutError:
                if waiting - self._unread_bytes() < MIN_READ_BYTES:
                    self._reset()
                    await asyncio.sleep(0)  # gunicorn learns it now, and complains otherwise
                    raise RequestAborted from None

    def _unread_bytes(self) -> int:
        """What waits here, and in the system, which takes some 100 KB before it asks for more."""
        waiting: int = self._transport.get_write_buffer_size()
        connected = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):  # not everywhere
            waiting += int.from_bytes(fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
        return waiting

    def _reset(self) -> None:
        """End the connection so that a cut answer does not look like a whole one, in HTTP/1.0 neither."""
        with contextlib.suppress(OSError, AttributeError):
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOT_AT_ALL)
        self._transport.abort()


class Connections:
    """Those of a worker. The idle ones wait for their client's next request, the longest first."""

    def __init__(self) -> None:
        self.all: set[Protocol] = set()
        self.idle: dict[Protocol, None] = {}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = MAX_IDLE if files == resource.RLIM_INFINITY else min(MAX_IDLE, files // 4)

    def add_idle(self, connection: "Protocol") -> None:
        self.idle[connection] = None
        if len(self.idle) > self._most:
            next(iter(self.idle)).end_without_request()

    def stop(self) -> None:
        """The worker stops: close those that have no request, and give those that may have one a moment."""
        for connection in list(self.all):
            connection.stop()


class Protocol(ASGIProtocol):
    """gunicorn's protocol with JSON errors. Its own are plain text and may quote the request."""

    _head_bytes = 0  # of a request whose head is not complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._flow_control = BoundedPatience(transport)
        self._made_at = self.worker.loop.time()
        self._head_timer = self._call_without_head(HEAD_SECONDS)
        self.worker.connections.all.add(self)
        if (connected := transport.get_extra_info("socket")) is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # what waits behind a connection's end has no task to watch it
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        self.worker.connections.all.discard(self)
        super().connection_lost(exc)

    def _call_without_head(self, seconds: float) -> asyncio.TimerHandle:
        """Close the connection after so many seconds (fewer while the worker stops) unless a head is complete."""
        seconds = seconds if self.worker.alive else LAST_HEAD_SECONDS
        timer: asyncio.TimerHandle = self.worker.loop.call_later(
            seconds, self._end_without_head, max(1, self.req_count)
        )
        return timer

    def _await_head(self) -> None:
        self._head_timer.cancel()
        self._head_timer = self._call_without_head(HEAD_SECONDS)

    def _end_without_head(self, number: int) -> None:
        if self._current_request is None and self.req_count <= number:
            self.end_without_request()

    def end_without_request(self) -> None:
        self._cancel_keepalive_timer()
        self._close_transport()
        self._request_ready.set()  # gunicorn's own task waits for it

    def _arm_keepalive_timer(self) -> None:
        """gunicorn waits for the next request. A part of it may have come with the one before."""
        if self._head_bytes:
            self._await_head()
        elif not self.worker.alive:
            self.end_without_request()
        else:
            super()._arm_keepalive_timer()
            self.worker.connections.add_idle(self)

    def _cancel_keepalive_timer(self) -> None:
        super()._cancel_keepalive_timer()
        self.worker.connections.idle.pop(self, None)

    def stop(self) -> None:
        """A request that runs ends the connection with its answer. One that has come, or begun to, is still heard."""
        if self._current_request is not None or self._finishing_calls:
            return
        is_new = self.req_count < 2 and self.worker.loop.time() - self._made_at < NEW_SECONDS
        if self._head_bytes or is_new or self._has_unheard():
            self._await_head()
        else:
            self.end_without_request()

    def _has_unheard(self) -> bool:
        """Whether the system has bytes for us that the event loop has not read yet."""
        with contextlib.suppress(OSError, AttributeError):
            connected = self.transport.get_extra_info("socket")
            return any(fcntl.ioctl(connected.fileno(), termios.FIONREAD, b"\0" * 4))
        return False

    def _send_error_response(self, status: int, message: str, extra_headers: Iterable[tuple[str, str]] = ()) -> None:
        request_id.set(secrets.token_hex(8))
        body = json.dumps(error_object(ApiError(CODES.get(status, "invalid_request"))), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Request-ID": request_id.get(),
            **dict(extra_headers),
        }
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._safe_write(head.encode("latin-1") + PROTECTION + b"\r\n" + body)
        logger.info("no request", extra={"status": status})

    def _is_websocket_upgrade(self, request: Any) -> bool:
        """Never: such a request is one like any other."""
        return False

    def _feed_callback_parser(self, data: bytes) -> Any:
        try:
            going_on = super()._feed_callback_parser(data)
        except ValueError:  # a Content-Length with more digits than Python reads
            self._send_error_response(400, "")
            self._close_transport()
            return False
        self._head_bytes = 0 if self._current_request else self._head_bytes + len(data)
        if self._head_bytes and self in self.worker.connections.idle:
            self._cancel_keepalive_timer()
            self._await_head()
        if going_on and self._head_bytes > MAX_HEAD_BYTES:
            self._send_error_response(431, "")
            self._close_transport()
            return False
        return going_on
