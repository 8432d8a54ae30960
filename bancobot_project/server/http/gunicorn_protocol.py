"""gunicorn's protocol with our errors, and with an end for clients that neither read nor send.

A connection without a request is kept for KEEP_ALIVE_SECONDS, and costs memory alone: when the worker stops, or has too
many of them, it is closed at once.
"""

import asyncio
import contextlib
import fcntl
import termios
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from gunicorn.asgi.protocol import _REASON_PHRASES, ASGIProtocol, FlowControl

from bancobot_project.server.http import connections
from bancobot_project.server.http.connections import MAX_HEAD_BYTES, most_idle, prepare, refusal, wait_for_reader

# gunicorn calls every other status “Unknown”, 402 for one, and that is all that some clients show.
_REASON_PHRASES.update({int(status): status.phrase for status in HTTPStatus if status not in _REASON_PHRASES})
LAST_HEAD_SECONDS = 2  # for a request that has begun to come, while the worker stops
NEW_SECONDS = 1  # in which most clients send what they have connected for


class BoundedPatience(FlowControl):
    """Waits for a reader as long as it reads."""

    async def drain(self) -> None:
        """Wait until there is room again. Raises `RequestAborted` where nobody reads, and closes the connection."""
        await wait_for_reader(self._transport, lambda: self.write_paused, super().drain)


class Connections:
    """Those of a worker. The idle ones wait for their client's next request, the longest first."""

    def __init__(self) -> None:
        self.all: set[Protocol] = set()
        self.idle: dict[Protocol, None] = {}
        self._most = most_idle()

    def add_idle(self, connection: "Protocol") -> None:
        self.idle[connection] = None
        if len(self.idle) > self._most:
            longest = next((other for other in self.idle if not other.has_unheard()), None)
            if longest is not None:
                longest.end_without_request()

    def stop(self) -> None:
        """The worker stops: close those that have no request, and give those that may have one a moment."""
        for connection in list(self.all):
            connection.stop()


class Protocol(ASGIProtocol):
    """gunicorn's protocol with JSON errors. Its own are plain text and may quote the request."""

    _head_bytes = 0  # of a request whose head is not complete; gunicorn's limits for single fields allow megabytes

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._flow_control = BoundedPatience(transport)
        self._made_at = self.worker.loop.time()
        self._head_timer = self._call_without_head(connections.HEAD_SECONDS)
        self.worker.connections.all.add(self)
        prepare(transport)

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
        self._head_timer = self._call_without_head(connections.HEAD_SECONDS)

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

    def _keepalive_timeout(self) -> None:
        if not self.has_unheard():  # otherwise the next request has come in the last moment
            self.end_without_request()

    def stop(self) -> None:
        """A request that runs ends the connection with its answer. One that has come, or begun to, is still heard."""
        if self._current_request is not None or self._finishing_calls:
            return
        is_new = self.req_count < 2 and self.worker.loop.time() - self._made_at < NEW_SECONDS
        if self._head_bytes or is_new or self.has_unheard():
            self._await_head()
        else:
            self.end_without_request()

    def has_unheard(self) -> bool:
        """Whether the system has bytes for us that the event loop has not read yet."""
        with contextlib.suppress(OSError, AttributeError):
            connected = self.transport.get_extra_info("socket")
            return any(fcntl.ioctl(connected.fileno(), termios.FIONREAD, b"\0" * 4))
        return False

    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        """Also where the answer comes before all of the body, since gunicorn ends the connection then.

        A proxy that was not told would use it again.
        """
        body = self._body_receiver
        return super()._will_close(request, response_requires_close) or (body is not None and not body._complete)

    def _send_error_response(self, status: int, message: str, extra_headers: Iterable[tuple[str, str]] = ()) -> None:
        headers, body = refusal(status)
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra_headers]
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
        self._safe_write(head + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + body)

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
