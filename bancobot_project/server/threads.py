"""Which request gets the next thread on Django's own way: callers take turns, so that nobody waits behind one of them.

A thread holds a database connection while it makes an answer, so there are no more of them than the pool serves.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from django.conf import settings
from django.http.cookie import parse_cookie

from access.authentication import identifier_in, identify
from access.keyring import keyring
from access.limits import network_of
from web.errors import ApiError

MAX_THREADS = 16
MAX_WRITES = 4  # at once; the turns' writer wants the same locks
READING = ("GET", "HEAD", "OPTIONS")
ELSEWHERE = 2  # connections of the pool that the writer and the maintenance use
WAITING_EACH = 256  # requests of a caller: a page asks for a dozen things at once, a swarm for more
WAITING_IN_ALL = 1024
# What asks no database has threads of its own, so that pages come whatever the callers of the record do.
PAGES = ("/static/", "/docs", "/redoc", "/schema", "/favicon.ico")


class Places:
    """So many threads, of which a caller holds at most half; who waits gets one in its caller's turn."""

    def __init__(self, threads: int) -> None:
        self._free = threads
        self._each = (threads + 1) // 2
        self._held: Counter[str] = Counter()
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of the callers' turns
        self._waiting = 0

    @asynccontextmanager
    async def one(self, caller: str) -> AsyncIterator[None]:
        """A place for the block. Raises `ApiError` where too many wait for one."""
        if self._free and self._held[caller] < self._each:  # then nobody waits who could have it
            self._give(caller)
        else:
            await self._wait(caller)
        try:
            yield
        finally:
            self._take_back(caller)

    def _give(self, caller: str) -> None:
        self._free -= 1
        self._held[caller] += 1

    def _take_back(self, caller: str) -> None:
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._call_next()

    async def _wait(self, caller: str) -> None:
        line = self._lines.get(caller, ())
        if len(line) >= WAITING_EACH:
            raise ApiError("rate_limited", detail_code="waiting", retry_after=1)
        if self._waiting >= WAITING_IN_ALL:
            raise ApiError("overloaded", retry_after=1)
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(caller, deque()).append(called)
        self._waiting += 1
        try:
            await called
        except asyncio.CancelledError:  # the client left
            self._leave(caller, called)
            raise

    def _leave(self, caller: str, called: asyncio.Future[None]) -> None:
        if called.done() and not called.cancelled():  # it had just been called
            self._take_back(caller)
            return
        self._waiting -= 1
        self._lines[caller].remove(called)
        if not self._lines[caller]:
            del self._lines[caller]

    def _call_next(self) -> None:
        while self._free and (caller := next(filter(self._may_have_one, self._lines), None)) is not None:
            line = self._lines.pop(caller)
            called = line.popleft()
            if line:
                self._lines[caller] = line  # its next turn comes after all others'
            self._waiting -= 1
            self._give(caller)
            called.set_result(None)

    def _may_have_one(self, caller: str) -> bool:
        return self._held[caller] < self._each


class Threads:
    """The places of a process: for what asks the database, and for the pages that do not."""

    def __init__(self) -> None:
        threads = database_threads()
        self._record = Places(threads)
        self._writes = Places(max(1, min(MAX_WRITES, threads - 1)))  # one is left for who reads
        self._pages = Places(MAX_THREADS)

    @asynccontextmanager
    async def one(self, scope: dict[str, Any]) -> AsyncIterator[None]:
        """A place for this request."""
        path = scope["path"]
        caller = name_of(path, dict(scope["headers"]), scope["client"])
        async with AsyncExitStack() as places:
            if path == "/" or path.startswith(PAGES):
                await places.enter_async_context(self._pages.one(caller))
            else:
                if scope["method"] not in READING:
                    await places.enter_async_context(self._writes.one(caller))
                await places.enter_async_context(self._record.one(caller))
            yield


def database_threads() -> int:
    """How many threads may ask the database at once: as many as get a connection from the pool without waiting."""
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    return min(MAX_THREADS, max(1, pool["max_size"] - ELSEWHERE)) if pool else MAX_THREADS


def name_of(path: str, headers: dict[bytes, bytes], client: tuple[str, int] | None) -> str:
    """Whose turn a request takes: its owner's, whichever of the owner's keys it has, or the login's, or the address's.

    It asks no database. A key that this process has not seen yet counts for its address.
    """
    if sent := headers.get(b"authorization", b"").decode("latin-1"):
        try:
            return identify(sent, keyring.last_known(identifier_in(sent) or "")).owner
        except ApiError:
            pass
    elif path.startswith("/admin"):
        cookies = parse_cookie(headers.get(b"cookie", b"").decode("latin-1"))
        if login := cookies.get(settings.SESSION_COOKIE_NAME):
            return f"login:{hashlib.sha256(login.encode()).hexdigest()}"
    return f"address:{network_of(client[0] if client else '')}"
