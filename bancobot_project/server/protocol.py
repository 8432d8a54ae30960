"""Answers what gunicorn itself refuses, bad HTTP or too long, like every other error."""

import json
import logging
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from gunicorn.asgi.protocol import _REASON_PHRASES, ASGIProtocol

from bancobot_project.server.headers import protection
from web.errors import ApiError, error_object
from web.logs import request_id

logger = logging.getLogger("bancobot.requests")

CODES = {414: "request_too_large", 431: "request_too_large", 500: "internal_error"}
PROTECTION = b"".join(b"%b: %b\r\n" % header for header in protection(admin=False, https=False))
# gunicorn calls every other status “Unknown”, 402 for one, and that is all that some clients show.
_REASON_PHRASES.update({int(status): status.phrase for status in HTTPStatus if status not in _REASON_PHRASES})


class Protocol(ASGIProtocol):
    """gunicorn's protocol with JSON errors. Its own are plain text and may quote the request."""

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
            return super()._feed_callback_parser(data)
        except ValueError:  # a Content-Length with more digits than Python reads
            self._send_error_response(400, "")
            self._close_transport()
            return False
