"""uvicorn's protocol, on h11, with our limits and errors, and an end for clients that neither read nor send."""

import asyncio
import logging
import sys
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.flow_control import CLOSE_HEADER, FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from bancobot_project.server.bodies import discard
from bancobot_project.server.http import connections
from bancobot_project.server.http.connections import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_IDLE,
    MAX_LINE_BYTES,
    MIN_READ_BYTES,
    prepare,
    refusal,
    reset,
    unread_bytes,
    wait_for_reader,
)

logger = logging.getLogger("bancobot.server")

LEFT_SECONDS = 3  # for a request whose client is gone to come to its end; as gunicorn has it


class BoundedPatience(FlowControl):
    """Waits for a reader as long as it reads."""

    async def drain(self) -> None:
        """Wait until there is room again. Raises `RequestAborted` where nobody reads, and closes the connection."""
        await wait_for_reader(self._transport, lambda: self.write_paused, super().drain)


class Aloud:
    """Says that the connection ends, where the answer comes before all of the body, and ends it after the application.

    That may read on for a while: who still sends would lose the answer otherwise.
    """

    def __init__(self, cycle: RequestResponseCycle, send: Any) -> None:
        self._cycle, self._send = cycle, send
        self._is_early = self._has_more = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._is_early = self._cycle.more_body
            if self._is_early:
                message["headers"] = [*message["headers"], CLOSE_HEADER]
        elif self._is_early and not message.get("more_body"):
            self._has_more = True
            message["more_body"] = True
        await self._send(message)

    async def end(self) -> None:
        if self._has_more and not self._cycle.disconnected:
            await self._send({"type": "http.response.body"})


class Protocol(H11Protocol):
    """uvicorn's protocol with JSON errors. It has no limit on the time of a head, on unread answers and on bodies."""

    idle: ClassVar[dict["Protocol", None]] = {}  # connections that wait for a request, the longest first
    most_idle: ClassVar[int] = MAX_IDLE
    _head_timer: asyncio.TimerHandle | None = None
    _running: asyncio.Task[Any] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = BoundedPatience(transport)
        self._application, self.app = self.app, self._answer
        prepare(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self.idle.pop(self, None)
        super().connection_lost(exc)
        if self._running is not None and self.cycle.disconnected:
            self.loop.call_later(LEFT_SECONDS, self._running.cancel)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def _watch_head(self) -> None:
        """A head, be it a connection's first or a later one that has begun, gets HEAD_SECONDS."""
        if self.conn.their_state is not h11.IDLE:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(connections.HEAD_SECONDS, self.transport.close)

    def _should_upgrade(self) -> bool:
        """Never: such a request is one like any other."""
        return False

    def send_400_response(self, msg: str) -> None:
        """For what h11 can't read, and says why by a status."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(status)
        self.transport.close()

    def _refuse(self, status: int) -> None:
        headers, body = refusal(status)
        reason = HTTPStatus(status).phrase.encode()
        for event in (h11.Response(status_code=status, headers=headers, reason=reason), h11.Data(body)):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """The application, for acceptable heads; where it fails or is cancelled, an error in JSON."""
        self._running = asyncio.current_task()
        cycle, aloud = self.cycle, Aloud(self.cycle, send)
        status = unacceptable(scope)
        try:
            if not status:
                await self._application(scope, receive, aloud.send)
        except asyncio.CancelledError:  # the client has left, or the time to stop is over
            status = 503
        except Exception:
            logger.exception("a request failed")
            status = 500
        if status and cycle.response_started and not cycle.disconnected:
            reset(self.transport)
            await asyncio.sleep(0)  # uvicorn learns it now, and complains otherwise
        elif status and not cycle.disconnected:
            headers, body = refusal(status)
            await aloud.send({"type": "http.response.start", "status": status, "headers": headers})
            await aloud.send({"type": "http.response.body", "body": body})
            await discard(receive)
        await aloud.end()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if waiting := unread_bytes(self.transport):
            self.loop.call_later(connections.UNREAD_SECONDS, self._end_unread, waiting)
        if self.timeout_keep_alive_task is not None:
            self.idle[self] = None
            if len(self.idle) > self.most_idle:
                longest = next(iter(self.idle))
                del self.idle[longest]
                longest.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        super()._unset_keepalive_if_required()
        self.idle.pop(self, None)

    def _end_unread(self, waiting: int) -> None:
        """What is left of an answer has no task to watch it."""
        if left := unread_bytes(self.transport):
            if waiting - left < MIN_READ_BYTES:
                reset(self.transport)
            else:
                self.loop.call_later(connections.UNREAD_SECONDS, self._end_unread, left)


def unacceptable(scope: Any) -> int:
    """The status that refuses a request for its head, as gunicorn would; 0 where it does not."""
    names = {name for name, _ in scope["headers"]}
    if scope["http_version"] not in ("1.0", "1.1") or names >= {b"content-length", b"transfer-encoding"}:
        return HTTPStatus.BAD_REQUEST
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_LINE_BYTES:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    longest = max((len(name) + len(value) for name, value in scope["headers"]), default=0)
    many = len(scope["headers"]) > MAX_FIELDS
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if many or longest > MAX_FIELD_BYTES else 0
