"""The way to the provider: one HTTP client, four time-outs, nothing sent twice."""

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import httpx
from aiohttp.connector import AddrInfoType
from aiohttp.connector import Connection as AiohttpConnection
from aiohttp.tracing import Trace
from httpx_aiohttp import AiohttpTransport

WRITE_PIECE = 64 * 1024  # bytes; what a connection takes at once without waiting for the other side
MAX_HEADER_BYTES = 32 * 1024  # bytes
TELLING_ERRORS = (aiohttp.ClientSSLError, aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError)


class _ProxyConnector(aiohttp.TCPConnector):
    """Tells what went wrong with a proxy before there was a connection: nothing had gone to the provider."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> AiohttpConnection:
        try:
            return await super().connect(req, traces, timeout)
        except (*TELLING_ERRORS, TimeoutError):
            raise
        except aiohttp.ClientError as exc:  # it hung up on CONNECT or behind it, or its answer was no HTTP
            problem = OSError("the proxy did not answer")
            raise aiohttp.ClientProxyConnectionError(req.connection_key, problem) from exc


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
        address = httpx.URL(proxy or "")
        self._login = _login(address)
        self._proxy = httpx.Proxy(address.copy_with(userinfo=b""), headers=self._login) if proxy else None
        self._ssl = httpx.create_ssl_context()  # certifi's authorities, or those that SSL_CERT_FILE names
        # From Python 3.13 on, formal flaws count, which the authorities of many companies have. curl ignores them.
        self._ssl.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._transport: AiohttpTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, url: httpx.URL, headers: httpx.Headers, body: bytes) -> httpx.Response:
        """The answer as soon as its headers are there; to be closed by the caller. Raises `TRANSPORT_ERRORS`."""
        if len(body) > WRITE_PIECE:
            return await self._post_large(url, headers, body)
        # A small body goes into the connection's buffer whole: there is nothing to wait for but the answer.
        request = httpx.Request("POST", url, headers=headers, content=body, extensions=self._timeouts)
        return await self._send(request)

    async def get(self, url: httpx.URL, headers: httpx.Headers) -> httpx.Response:
        request = httpx.Request("GET", url, headers=headers, extensions=self._timeouts)
        return await self._send(request)

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
                return await self._send(request)
            finally:
                waiting = False

    async def _send(self, request: httpx.Request) -> httpx.Response:
        if self._login and request.url.scheme == "http":  # with TLS it is in CONNECT, and the provider does not see it
            request.headers.update(self._login)
        return await self._open().handle_async_request(request)

    def _open(self) -> AiohttpTransport:
        loop = asyncio.get_running_loop()
        if self._transport is None or self._loop is not loop:
            self._loop = loop
            self._transport = AiohttpTransport(verify=self._ssl, client=self._session, proxy=self._proxy)
        return self._transport

    def _session(self) -> aiohttp.ClientSession:
        kind = _ProxyConnector if self._proxy else aiohttp.TCPConnector
        connector = kind(
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


def _login(url: httpx.URL) -> dict[str, str]:
    """The header for a proxy that asks who comes, in UTF-8. aiohttp would write Latin-1, and fail for other letters."""
    if not url.userinfo:
        return {}
    return {"Proxy-Authorization": f"Basic {base64.b64encode(f'{url.username}:{url.password}'.encode()).decode()}"}
