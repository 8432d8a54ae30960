"""What every request passes through, and the short way for those that talk.

Django's own handler takes signals and middleware through threads, several hops a request. What chat/urls.py names needs
none of them and goes past them; everything else (sessions, admin, documentation) takes Django's own way.
"""

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.urls import Resolver404, ResolverMatch, resolve, set_urlconf
from django.utils.module_loading import import_string

from bancobot_project import lifespan
from bancobot_project.errors import ApiError, json_error
from bancobot_project.logs import facts, request_id

logger = logging.getLogger("bancobot.requests")

Scope = dict[str, Any]  # ASGI's names for what it passes
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

A_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
ON_THE_LOOP = "chat.urls"


class LoopHandler(ASGIHandler):
    """Runs the views of chat/urls.py on the event loop, behind settings.TURN_MIDDLEWARE alone and without signals.

    Those views keep no database connection and no file, so nothing has to be closed after them.
    """

    def load_middleware(self, is_async: bool = True) -> None:
        for kind in ("view", "template_response", "exception"):  # Django's names; there are none
            setattr(self, f"_{kind}_middleware", [])
        handler: Any = convert_exception_to_response(getattr(self, "_get_response_async"))  # noqa: B009 - not in the stubs
        for name in reversed(settings.TURN_MIDDLEWARE):
            handler = convert_exception_to_response(import_string(name)(handler))
        self._answer: Callable[[ASGIRequest], Awaitable[Any]] = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = ASGIRequest(scope, BytesIO(await read_body(receive)))
        request.resolver_match = scope["match"]
        set_urlconf(settings.ROOT_URLCONF)
        response = await self._answer(request)
        if response.streaming:
            async with aclosing(response):
                await self.send_response(response, send)
        else:
            await send_whole(response, send)

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        assert request.resolver_match is not None  # noqa: S101 - set above
        return request.resolver_match


async def read_body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def send_whole(response: HttpResponse, send: Send) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    headers.append((b"Content-Length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


class Application:
    """The whole service as one ASGI callable: request ids, limits, the log's line, and the way to the handlers."""

    def __init__(self) -> None:
        self.django = ASGIHandler()
        self.loop = LoopHandler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan.run(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        exchange = Exchange(scope, send, headers.get(b"x-request-id", b""))
        try:
            check(scope, headers)
            scope["match"] = match_on_the_loop(scope["path"])
            handler = self.loop if scope["match"] else self.django
            await handler(scope, limited(receive), exchange.send)
        except ApiError as problem:
            if exchange.status == 0:
                await send_whole(json_error(ASGIRequest(scope, BytesIO()), problem), exchange.send)
        finally:
            exchange.log()


class Exchange:
    """One request and its answer: gives it an id, and the log a line."""

    def __init__(self, scope: Scope, send: Send, wished_id: bytes) -> None:
        self.scope = scope
        self.status = 0
        self.began_at = time.monotonic()
        self.facts: dict[str, Any] = {}
        self.id = wished_id.decode() if A_REQUEST_ID.fullmatch(wished_id) else secrets.token_hex(8)
        self._send = send
        request_id.set(self.id)
        facts.set(self.facts)

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"X-Request-ID", self.id.encode())]
        await self._send(message)

    def log(self) -> None:
        if logger.isEnabledFor(logging.INFO):
            line = {
                "method": self.scope["method"],
                "path": self.scope["path"],
                "status": self.status or None,  # none: the client had gone
                "ms": round((time.monotonic() - self.began_at) * 1000),
            }
            logger.info("request", extra=line | self.facts)


def match_on_the_loop(path: str) -> ResolverMatch | None:
    try:
        return resolve(path, urlconf=ON_THE_LOOP)
    except Resolver404:
        return None


def check(scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Refuse what no view should have to think of; raises `ApiError`."""
    query = scope.get("query_string", b"")
    if "\0" in scope["path"]:
        raise ApiError("not_found")
    if b"%00" in query or b"\0" in query or not query.isascii():
        raise ApiError("invalid_request")
    host, _ = split_domain_port(headers.get(b"host", b"").decode("latin-1"))
    known = scope["path"].rstrip("/") == "/health" or (host and validate_host(host, settings.ALLOWED_HOSTS))
    if not known:  # a balancer may ask for health by address
        raise ApiError("invalid_request", detail_code="unknown_host")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > settings.MAX_BODY_BYTES:
        raise ApiError("request_too_large")


def limited(receive: Receive) -> Receive:
    """`receive`, which stops a body that grows over MAX_BODY_BYTES although it did not say so."""
    total = 0

    async def receive_limited() -> Any:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > settings.MAX_BODY_BYTES:
            raise ApiError("request_too_large")
        return message

    return receive_limited
