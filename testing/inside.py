"""The application in this process, asked without a server: a request costs a millisecond instead of tens."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from testing.client import Caller


class Inside(Caller):
    """A caller of an ASGI application; its requests run one after the other, to the end of each answer."""

    def __init__(self, application: Any) -> None:
        self.key = f"sk-{secrets.token_hex(12)}"
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self._application = application

    @contextmanager
    def connection(self) -> Iterator[httpx.Client]:
        transport = _Transport(httpx.ASGITransport(self._application))
        with httpx.Client(transport=transport, base_url="http://localhost", headers=self.headers) as client:
            yield client


class _Transport(httpx.BaseTransport):
    def __init__(self, transport: httpx.ASGITransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._answered(request))

    async def _answered(self, request: httpx.Request) -> httpx.Response:
        request.stream = httpx.ByteStream(request.read())
        answer = await self._transport.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())
