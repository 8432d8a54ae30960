"""View sets whose requests stay on the event loop: nothing that they call may block or hop to a thread."""

import json
import time
from typing import Any

from django.http import HttpResponse
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access.audit import address_of
from access.authentication import HasScope, header_in, identifier_in, identify
from access.callers import Caller
from access.keyring import keyring, read_keys
from access.limits import count_requests, limit_headers, requests_to_count
from sessions_api.store.writer import writer
from web.errors import ApiError, in_language_of
from web.parsers import AcceptHeader, StrictJSONParser

ANYTHING = ("*/*", "application/json")


class EventStreamRenderer(BaseRenderer):
    """Lets a client ask for a stream with its Accept header. The stream itself comes from streaming.py."""

    media_type = "text/event-stream"
    format = "sse"


class LoopViewSet(ViewSet):
    """Runs its actions on the event loop, behind authentication, limits and scopes."""

    metadata_class = None
    content_negotiation_class = AcceptHeader
    renderers = (JSONRenderer(), EventStreamRenderer())
    parsers = (StrictJSONParser(),)
    permissions = (HasScope(),)
    scopes: dict[str, tuple[str, ...]]
    keyless = False  # whether it answers callers without a key in every ACCESS_MODE

    # They keep no state, so all requests share them. DRF would make new ones for each.
    def get_renderers(self) -> Any:
        return self.renderers

    def get_parsers(self) -> Any:
        return self.parsers

    def get_authenticators(self) -> Any:
        return ()

    def get_permissions(self) -> Any:
        return self.permissions

    async def recognise(self, request: Any) -> Caller:
        """Who is calling. Looks the key up at most once a second, and counts the request."""
        header = header_in(request.META)
        key = None
        if identifier := identifier_in(header):
            key = keyring.fresh(identifier)
            if key is None:
                asked_at = time.monotonic()
                key = keyring.keep(identifier, await writer.run(read_keys, identifier), asked_at)
        try:
            caller = identify(header, key, keyless=self.keyless)
        except ApiError:
            await self._count(None, request)
            raise
        await self._count(caller, request)
        return caller

    async def _count(self, caller: Caller | None, request: Any) -> None:
        for one in requests_to_count(caller, address_of(request)):
            self.headers |= limit_headers(await writer.run(count_requests, one))

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        if request.META.get("HTTP_ACCEPT", "*/*") in ANYTHING:  # nearly always
            return self.renderers[0], self.renderers[0].media_type
        return super().perform_content_negotiation(request, force)

    async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        self.headers: dict[str, str] = {}
        self.request = asked = self.initialize_request(request, *args, **kwargs)
        with in_language_of(request):
            try:
                asked.user = await self.recognise(request)  # type: ignore[assignment]  # here a user is a Caller
                self.initial(asked, *args, **kwargs)
                response = await self._handler(request.method.lower())(asked, *args, **kwargs)
            except Exception as problem:
                response = self.handle_exception(problem)
        return as_json(response, self.headers) if isinstance(response, Response) else response

    def _handler(self, method: str) -> Any:
        """The coroutine for a method. A client may send any word as a method, also the name of an attribute."""
        if method in self.action_map:
            return getattr(self, method)
        self.headers["Allow"] = ", ".join(self.allowed_methods)
        return self.http_method_not_allowed


def as_json(response: Response, more: dict[str, str]) -> HttpResponse:
    """The response with `more` headers, rendered here. Django would render a DRF response in a thread."""
    body = json.dumps(response.data, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {**more, **dict(response.items()), "Content-Type": "application/json"}
    return HttpResponse(body, status=response.status_code, headers=headers)
