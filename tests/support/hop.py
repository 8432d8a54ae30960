"""An HTTP hop between a browser and the service, as a proxy is, which answers some messages itself."""

import contextlib
import http.client
import threading
from collections import deque
from collections.abc import Callable, Iterable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

CUT = 0  # instead of a status: the connection is closed without an answer


class Answer(NamedTuple):
    status: int
    body: bytes = b"<html><body>Proxy</body></html>"
    type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()


class Hop:
    """Forwards requests to the service. Messages get `answers` first, one each, then `otherwise` where that is set.

    `gate`, where it is set, answers requests that may not pass: it gets their path and headers, as a sign-in does.
    """

    def __init__(self, service_port: int) -> None:
        self.answers: deque[Answer] = deque()
        self.otherwise: Answer | None = None
        self.gate: Callable[[str, Message], Answer | None] = lambda path, headers: None
        self.messages: list[str] = []  # the Idempotency-Keys of all messages, in the order of arrival
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, service_port))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hop":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, key: str) -> Answer | None:
        self.messages.append(key)
        return self.answers.popleft() if self.answers else self.otherwise


def _handler(hop: Hop, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_message = self.command == "POST" and self.path == "/chat"
            own = hop.gate(self.path, self.headers)
            if own is None and is_message:
                own = hop.answer(self.headers["Idempotency-Key"])
            if own is None:
                self._forward(body)
            elif own.status == CUT:
                self.close_connection = True
            else:
                typed = [("Content-Type", own.type)] if own.type else []
                length = [] if own.status == 204 else [("Content-Length", str(len(own.body)))]
                self._answer(own.status, [*typed, *length, *own.headers], [own.body])

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def _forward(self, body: bytes) -> None:
            service = http.client.HTTPConnection("127.0.0.1", port)
            service.request(self.command, self.path, body, dict(self.headers.items()))
            answer = service.getresponse()
            headers = [
                each for each in answer.getheaders() if each[0].lower() not in ("connection", "transfer-encoding")
            ]
            self.close_connection = True  # the end of the answer
            self._answer(answer.status, [*headers, ("Connection", "close")], iter(lambda: answer.read1(65536), b""))
            service.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], pieces: Iterable[bytes]) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()

    return Handler
