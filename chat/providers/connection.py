"""The way to the provider: one HTTP client, four time-outs, nothing sent twice."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
import certifi
from aiohttp.connector import AddrInfoType

WRITE_PIECE = 64 * 1024  # bytes; what a connection takes at once without waiting for the other side
MAX_HEADER_BYTES = 32 * 1024  # bytes


class Connection:
    """Sends requests, and keeps no cookies: one caller's must not reach another's request. Follows no redirects.

    Time-outs are in seconds: to connect (DNS and TLS included), to hand over a further 64 KiB of the body, and
    between two reads. `keep_alive` is how long an idle connection is kept. It has to be shorter than the other side's:
    a request that meets a closing connection fails, and may not be sent again.
    """

    def __init__(self, *, connect_timeout: float, write_timeout: float, read_timeout: float, keep_alive: float) -> None:
        # The pool has no limit to wait for, so `connect` is the time of connecting.
        self._timeout = aiohttp.ClientTimeout(connect=connect_timeout, sock_read=read_timeout)
        self._write_timeout = write_timeout
        self._keep_alive = keep_alive
        self._ssl = tls_context()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
        """The answer as soon as its headers are there; to be closed by the caller. Raises `TRANSPORT_ERRORS`."""
        if len(body) > WRITE_PIECE:
            return await self._post_large(url, headers, body)
        # A small body goes into the connection's buffer whole: there is nothing to wait for but the answer.
        return await self._open().post(url, headers=headers, data=body, allow_redirects=False)

    async def get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        return await self._open().get(url, headers=headers, allow_redirects=False)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    async def _post_large(self, url: str, headers: Mapping[str, str], body: bytes) -> aiohttp.ClientResponse:
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

            sized = {**headers, "Content-Length": str(len(body))}
            try:
                return await self._open().post(url, headers=sized, data=pieces(), allow_redirects=False)
            finally:
                waiting = False

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # as many as there are turns: `None` would mean 100
            ssl=self._ssl,
            keepalive_timeout=self._keep_alive,
            socket_factory=self._socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # no netrc and no proxies of the environment; they would cost two thread hops per request
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


def tls_context() -> ssl.SSLContext:
    """Trusts certifi's authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR names."""
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if directory and not file:
        return ssl.create_default_context(capath=directory)
    return ssl.create_default_context(cafile=file or certifi.where())
