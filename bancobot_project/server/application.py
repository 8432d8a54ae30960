"""The way of every request, and the short one for requests that talk.

Django's own handler runs signals and middleware in threads, with several hops per request. The addresses in
loop_urls.py need none of that and bypass it. Everything else (sessions, admin, documentation) takes Django's way.
"""

import functools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.db import Error as DatabaseProblem
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string

from access.limits import count_requests, limit_headers, requests_to_count
from bancobot_project.error_pages import readable
from bancobot_project.server import lifespan
from bancobot_project.server.base_path import inner, outer
from bancobot_project.server.bodies import Bodies, discard
from bancobot_project.server.headers import Protection
from bancobot_project.server.loop_rounds import LoopRounds
from bancobot_project.server.spool import PIECE, Spool
from bancobot_project.server.threads import Threads
from sessions_api.store.writer import writer
from web.addresses import Proxies, networks
from web.errors import ApiError, as_api_error, json_error
from web.logs import log_fields, request_id
from web.responses import Stream

logger = logging.getLogger("bancobot.requests")

Scope = dict[str, Any]  # these are ASGI's names
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Answering = Callable[[ASGIRequest], Awaitable[Any]]

A_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
MAX_PARAMETERS = 100  # of a query; Django takes no more than 1,000
PAGES = re.compile("/|/(?:schema|docs|redoc|admin/login)/?")  # for everybody; each endpoint counts its own requests
MANY_SLASHES = re.compile("//+")
MAX_PATH_CHARS = 1000  # characters of it in the log


class LoopHandler(ASGIHandler):
    """Runs the views of loop_urls.py on the event loop, behind settings.TURN_MIDDLEWARE only and without signals.

    These views hold no database connection and no file, so nothing has to be closed after them.
    """

    def load_middleware(self, is_async: bool = True) -> None:
        handler: Any = convert_exception_to_response(answer_of_view)
        self._directly: Answering = handler
        for name in reversed(settings.TURN_MIDDLEWARE):
            handler = convert_exception_to_response(import_string(name)(handler))
        self._through_middleware: Answering = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = ASGIRequest(outer(scope), BytesIO((await receive())["body"]))
        request.resolver_match = scope["match"]
        if "HTTP_ORIGIN" in request.META or request.method == "OPTIONS":
            response = await self._through_middleware(request)
        else:  # no page of another origin asks, and all that CORS needs is this header
            response = await self._directly(request)
            patch_vary_headers(response, ("origin",))
        if isinstance(response, Stream):
            await send_stream(response, send)
        else:
            await send_whole(response, send)


async def answer_of_view(request: HttpRequest) -> HttpResponseBase:
    """The answer of the view that the address has been matched to."""
    match = request.resolver_match
    assert match is not None  # noqa: S101 - LoopHandler sets it
    answer: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
    return answer


async def count_page(scope: Scope) -> None:
    """Count a request without a caller for its address. Raises `ApiError` beyond the limit."""
    for one in requests_to_count(None, scope["client"][0] if scope["client"] else ""):
        limit_headers(await writer.run(count_requests, one))


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` for a body that has been read already."""
    waiting = [{"type": "http.request", "body": body}]

    async def receive_again() -> Any:
        return waiting.pop() if waiting else await receive()

    return receive_again


def encoded(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]


async def send_stream(response: Stream, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": encoded(response)})
    async with aclosing(response.pieces) as pieces:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def send_whole(response: HttpResponse, send: Send) -> None:
    headers = [*encoded(response), (b"Content-Length", str(len(response.content)).encode())]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


class Application:
    """The whole service as one ASGI callable: request ids, limits, log lines, and the choice of the handler."""

    def __init__(self) -> None:
        self.django = ASGIHandler()
        self.loop = LoopHandler()
        self.bodies = Bodies()
        self.threads = Threads()
        self.rounds = LoopRounds()
        self.proxies = Proxies(networks("TRUSTED_PROXIES", settings.TRUSTED_PROXIES))
        self.protection = Protection()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan.run(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if self.proxies or not scope["client"] or ":" in scope["client"][0]:
            self.proxies.reveal(scope)
        exchange = Exchange(scope, send, headers.get(b"x-request-id", b""), self.protection)
        body = None
        try:
            scope["path"] = inner(MANY_SLASHES.sub("/", scope["path"]))  # of clients whose base address ends with one
            check(scope, headers)
            scope["match"] = match_on_the_loop(scope["path"])
            body = await self.bodies.read(receive, headers, scope["client"][0] if scope["client"] else "")
            if b"content-length" not in headers:  # a body in chunks: DRF reads a body only with this header
                scope["headers"] = [*scope["headers"], (b"content-length", str(len(body)).encode())]
            if scope["match"]:
                await self.rounds.turn(scope)
                await self.loop(scope, replay(body, receive), exchange.send)
            else:
                if PAGES.fullmatch(scope["path"]):
                    await count_page(scope)
                await self._answer_by_django(scope, replay(body, receive), exchange)
        except RequestAborted:  # the client left before its request was complete, and waits for no answer
            pass
        except (ApiError, DatabaseProblem) as problem:
            if exchange.status == 0:
                scope["match"] = ResolverMatch(refusing(as_api_error(problem)), (), {})
                await self.loop(scope, replay(b"", receive), exchange.send)
        finally:
            exchange.log()
        if body is None and exchange.status and headers.get(b"expect", b"") == b"":  # who expects a word sends nothing
            await discard(receive)

    async def _answer_by_django(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        """Raises `ApiError` where the answer could not be completed. Nothing of it has been sent then."""
        with Spool() as answer:
            try:
                async with self.threads.one(scope):  # not while the answer is sent: a client may read slowly
                    await self.django(outer(scope), receive, answer.keep)
            except Exception as problem:  # from a streamed answer; Django handles all others
                raise as_api_error(problem) from problem
            await answer.send(exchange.send)


class Exchange:
    """One request and its answer. Adds the id and the headers that all answers have, and writes the log line."""

    def __init__(self, scope: Scope, send: Send, client_id: bytes, protection: Protection) -> None:
        self.scope = scope
        self.path = scope["path"]  # as it was asked for
        self.protection = protection
        self.status = 0
        self.began_at = time.monotonic()
        self.log_fields: dict[str, Any] = {}
        self.id = client_id.decode() if A_REQUEST_ID.fullmatch(client_id) else secrets.token_hex(8)
        self._send = send
        request_id.set(self.id)
        log_fields.set(self.log_fields)

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"X-Request-ID", self.id.encode())]
            message["headers"] = self.protection.complete(headers, self.scope["path"], self.scope["scheme"])
        elif self.scope["method"] == "HEAD":
            message["body"] = b""  # Django leaves this to the server, and gunicorn complains
        elif len(message.get("body", b"")) > PIECE:
            await self._send_in_pieces(message["body"])
            message["body"] = b""
        await self._send(message)

    async def _send_in_pieces(self, body: bytes) -> None:
        """Where many readers of one body do not read, each costs a piece rather than a copy."""
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    def log(self) -> None:
        level = logging.DEBUG if self.scope["path"].startswith("/static/") else logging.INFO
        if logger.isEnabledFor(level):
            line = {
                "method": self.scope["method"],
                "path": self.path[:MAX_PATH_CHARS],
                "status": self.status or None,  # none: the client had left
                "ms": round((time.monotonic() - self.began_at) * 1000),
            }
            logger.log(level, "request", extra=line | self.log_fields)


def refusing(problem: ApiError) -> Callable[[HttpRequest], Awaitable[HttpResponse]]:
    """A view that answers with this error, so that it takes the same way as every answer."""

    async def refuse(request: HttpRequest) -> HttpResponse:
        return readable(request, json_error(request, problem))

    return refuse


@functools.lru_cache(maxsize=64)
def is_known(host_header: bytes) -> bool:
    host, _ = split_domain_port(host_header.decode("latin-1"))
    return bool(host) and validate_host(host, settings.ALLOWED_HOSTS)


@functools.lru_cache(maxsize=64)
def is_welcome(origin_header: bytes, host_header: bytes) -> bool:
    """Whether the page of a browser is ours, or one that CORS admits. CORS keeps others from reading alone."""
    origin = origin_header.decode("latin-1")
    scheme, _, host = origin.partition("://")
    usual_port = {"http": ":80", "https": ":443"}.get(scheme, "")
    return (
        host.lower() == host_header.decode("latin-1").lower().removesuffix(usual_port)
        or origin in settings.CORS_ALLOWED_ORIGINS
        or any(re.match(allowed, origin) for allowed in settings.CORS_ALLOWED_ORIGIN_REGEXES)
    )


def is_foreign(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another origin asks. The admin is left out: its tokens tell, also behind a proxy."""
    site, method = headers.get(b"sec-fetch-site"), scope["method"]
    if site == b"same-origin" or method == "OPTIONS" or scope["path"].startswith("/admin/"):
        return False  # no page can write the first; CORS answers the second
    if b"origin" in headers:
        return not is_welcome(headers[b"origin"], headers.get(b"host", b""))
    return site == b"cross-site" and method not in ("GET", "HEAD")  # who follows a link only reads


@functools.lru_cache(maxsize=64)
def match_on_the_loop(path: str) -> ResolverMatch | None:
    try:
        return resolve(path, urlconf=settings.LOOP_URLCONF)
    except Resolver404:
        return None


def check(scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Refuse what no view should have to handle. Raises `ApiError`."""
    query = scope.get("query_string", b"")
    if "\0" in scope["path"]:
        raise ApiError("not_found")
    if b"%00" in query or b"\0" in query or not query.isascii() or query.count(b"&") > MAX_PARAMETERS:
        raise ApiError("invalid_request")
    # A load balancer may ask for /health by IP address.
    if not is_known(headers.get(b"host", b"")) and scope["path"].rstrip("/") != "/health":
        raise ApiError("invalid_request", detail_code="unknown_host")
    if settings.ACCESS_MODE == "open" and is_foreign(scope, headers):
        raise ApiError("permission_denied", detail_code="foreign_page")
    if headers.get(b"content-encoding", b"identity") != b"identity":  # a small body must not inflate to a large one
        raise ApiError("unsupported_media_type")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > settings.MAX_BODY_BYTES:
        raise ApiError("request_too_large")
