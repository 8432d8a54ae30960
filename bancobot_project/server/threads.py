"""Which request gets the next thread on Django's own way: callers take turns, so that nobody waits behind one of them.

A thread holds a database connection while it makes an answer, so there are no more of them than the pool serves.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from django.conf import settings

from bancobot_project.server.callers import CallerLines, name_of
from web.errors import ApiError

MAX_THREADS = 16
MAX_WRITES = 4  # at once; the turns' writer wants the same locks
READING = ("GET", "HEAD", "OPTIONS")
ELSEWHERE = 2  # connections of the pool that the writer and the maintenance use
WAITING_EACH = 256  # requests of a caller: a page asks for a dozen things at once, a swarm for more
WAITING_IN_ALL = 1024
# What asks no database has threads of its own, so that pages come whatever the callers of the record do.
PAGES = ("/static/", "/docs", "/redoc", "/schema", "/favicon.ico")


class FairSemaphore:
    """So many threads, of which a caller holds at most half; who waits gets one in its caller's turn."""

    def __init__(self, threads: int) -> None:
        self._free = threads
        self._each = (threads + 1) // 2
        self._held: Counter[str] = Counter()
        self._lines = CallerLines()

    @asynccontextmanager
    async def one(self, caller: str) -> AsyncIterator[None]:
        """A thread for the block. Raises `ApiError` where too many wait for one."""
        if self._free and self._may_have_one(caller):  # then nobody waits who could have it
            self._give(caller)
        else:
            await self._wait(caller)
        try:
            yield
        finally:
            self._take_back(caller)

    def _may_have_one(self, caller: str) -> bool:
        return self._held[caller] < self._each

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
        if self._lines.length(caller) >= WAITING_EACH:
            raise ApiError("rate_limited", detail_code="waiting", retry_after=1)
        if self._lines.waiting >= WAITING_IN_ALL:
            raise ApiError("overloaded", retry_after=1)
        called = self._lines.join(caller)
        try:
            await called
        except asyncio.CancelledError:  # the client left
            if called.cancelled():
                self._lines.leave(caller, called)
            else:  # it had just been called
                self._take_back(caller)
            raise

    def _call_next(self) -> None:
        while self._free and (next_one := self._lines.next(self._may_have_one)):
            caller, called = next_one
            self._give(caller)
            called.set_result(None)


class Threads:
    """The threads of a process: for what asks the database, and for the pages that do not."""

    def __init__(self) -> None:
        threads = database_threads()
        self._record = FairSemaphore(threads)
        self._writes = FairSemaphore(max(1, min(MAX_WRITES, threads - 1)))  # one is left for who reads
        self._pages = FairSemaphore(MAX_THREADS)

    @asynccontextmanager
    async def one(self, scope: dict[str, Any]) -> AsyncIterator[None]:
        """A thread for this request."""
        path = scope["path"]
        caller = name_of(path, dict(scope["headers"]), scope["client"])
        async with AsyncExitStack() as held:
            if path == "/" or path.startswith(PAGES):
                await held.enter_async_context(self._pages.one(caller))
            else:
                if scope["method"] not in READING:
                    await held.enter_async_context(self._writes.one(caller))
                await held.enter_async_context(self._record.one(caller))
            yield


def database_threads() -> int:
    """How many threads may ask the database at once: as many as get a connection from the pool without waiting."""
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    return min(MAX_THREADS, max(1, pool["max_size"] - ELSEWHERE)) if pool else MAX_THREADS
