"""The way to the provider: one HTTP client, four time-outs, nothing sent twice."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import httpx
from aiohttp.connector import AddrInfoType
from httpx_aiohttp import AiohttpTransport

WRITE_PIECE = 64 * 1024  # bytes; what a connection takes at once without waiting for the other side
MAX_HEADER_BYTES = 32 * 1024  # bytes


class Connection:
    """Sends requests through httpx's transport interface, without `httpx.AsyncClient`.

    The client would add cookies (one caller's must not reach another's request), redirects, netrc and proxies from the
    environment. None of these is wanted, and the client takes two fifths of a request's CPU time.

    Time-outs are in seconds: to connect (DNS and TLS included), to hand over a further 64 KiB of the body, and
    between two reads. `keep_alive` is how long an idle connection is kept. It has to be shorter than the other side's:
    a request that meets a closing connection fails, and may not be sent again.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        write_timeout: float,
        read_timeout: float,
        keep_alive: float,
        proxy: str | None = None,
    ) -> None:
        # aiohttp applies `pool` to the whole of connecting. The pool itself has no limit to wait for.
        self._timeouts = {"timeout": {"pool": connect_timeout, "read": read_timeout}}
        self._write_timeout = write_timeout
        self._keep_alive = keep_alive
        self._proxy = httpx.Proxy(proxy) if proxy else None
        self._ssl = httpx.create_ssl_context()  # certifi's authorities, or those that SSL_CERT_FILE names
        self._transport: AiohttpTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, url: httpx.URL, headers: httpx.Headers, body: bytes) -> httpx.Response:
        """The answer as soon as its headers are there; to be closed by the caller. Raises `TRANSPORT_ERRORS`."""
        if len(body) > WRITE_PIECE:
            return await self._post_large(url, headers, body)
        # A small body goes into the connection's buffer whole: there is nothing to wait for but the answer.
        request = httpx.Request("POST", url, headers=headers, content=body, extensions=self._timeouts)
        return await self._open().handle_async_request(request)

    async def get(self, url: httpx.URL, headers: httpx.Headers) -> httpx.Response:
        request = httpx.Request("GET", url, headers=headers, extensions=self._timeouts)
        return await self._open().handle_async_request(request)

    async def aclose(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None and self._loop is asyncio.get_running_loop():
            await transport.aclose()

    async def _post_large(self, url: httpx.URL, headers: httpx.Headers, body: bytes) -> httpx.Response:
        headers = headers.copy()
        headers["Content-Length"] = str(len(body))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            waiting = True

            async def pieces() -> AsyncIterator[bytes]:
                for start in range(0, len(body), WRITE_PIECE):
                    if waiting:  # an answer may come before the whole body has gone
                        limit.reschedule(loop.time() + self._write_timeout)
                    yield body[start : start + WRITE_PIECE]
                if waiting:
                    limit.reschedule(None)

            request = httpx.Request("POST", url, headers=headers, content=pieces(), extensions=self._timeouts)
            try:
                return await self._open().handle_async_request(request)
            finally:
                waiting = False

    def _open(self) -> AiohttpTransport:
        loop = asyncio.get_running_loop()
        if self._transport is None or self._loop is not loop:
            self._loop = loop
            self._transport = AiohttpTransport(verify=self._ssl, client=self._session, proxy=self._proxy)
        return self._transport

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # as many as there are turns: `None` would mean 100
            ssl=self._ssl,
            keepalive_timeout=self._keep_alive,
            socket_factory=self._socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # no netrc and no proxy from the environment, which would take two thread hops per request
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )

    def _socket(self, address: AddrInfoType) -> socket.socket:
        """A socket that the kernel drops when the other side takes nothing: closing alone would wait for ever."""
        family, kind, protocol, _, _ = address
        sock = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._write_timeout * 1000))
        return sock
