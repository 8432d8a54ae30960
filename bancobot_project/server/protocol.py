"""gunicorn's protocol with our errors, and with an end for clients that neither read nor send."""

import asyncio
import contextlib
import fcntl
import json
import logging
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
HEAD_SECONDS = 60  # for the first request of a connection to arrive; gunicorn gives later ones `keepalive` seconds
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


class Protocol(ASGIProtocol):
    """gunicorn's protocol with JSON errors. Its own are plain text and may quote the request."""

    _head_bytes = 0  # of a request whose head is not complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._flow_control = BoundedPatience(transport)
        self._head_timer = self.worker.loop.call_later(HEAD_SECONDS, self._end_without_head)
        if (connected := transport.get_extra_info("socket")) is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # what waits behind a connection's end has no task to watch it
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _end_without_head(self) -> None:
        if self._current_request is None and self.req_count < 2:
            self._close_transport()
            self._request_ready.set()  # gunicorn's own task waits for it

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
        if going_on and self._head_bytes > MAX_HEAD_BYTES:
            self._send_error_response(431, "")
            self._close_transport()
            return False
        return going_on
