"""The group commit: one thread, one database connection, and one transaction for all waiting work.

A thread hop and a commit per query would be a turn's largest cost. Here turns share one hop and one commit.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import Error, InterfaceError, OperationalError, connection, transaction

from sessions_api.store.database_file import the_file
from sessions_api.store.process import outages
from web.connections import READ_ONLY, renew_after, sqlstate

logger = logging.getLogger(__name__)

MAX_JOBS = 100  # per transaction, so that no job waits long
LONG_CHARS, MAX_LONG_CHARS = (
    20_000,
    200_000,
)  # of a text that waits for others to go first, and of all such texts at once
ATTEMPTS = 3  # for a job alone: another process may have used the same row, or the connection may have died

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Operation = Callable[[Sequence[Argument]], Sequence[Result]]


@dataclass(slots=True)
class Job:
    """One argument for a set-based operation, and the future that waits for its result."""

    operation: Operation[Any, Any]
    argument: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs set-based operations for coroutines. One per process; the first call starts it."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, operation: Operation[Argument, Result], argument: Argument) -> asyncio.Future[Result]:
        """The result of `operation` for `argument`, after the commit. Raises Django's database errors.

        An operation gets a list of arguments and returns a list of results. It may run again after a failure, so it
        must change nothing but the database, and must recognise its own rows.
        """
        if self._thread is None:
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._jobs.put(Job(operation, argument, loop, future))
        return future

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        long: deque[Job] = deque()
        while True:
            jobs = self._take(long)
            self._perform(jobs)
            for loop in {job.loop for job in jobs}:
                try:
                    loop.call_soon_threadsafe(_deliver, [job for job in jobs if job.loop is loop])
                except RuntimeError:  # the loop was closed: nobody waits any more
                    logger.debug("an event loop went away before its result came")

    def _take(self, long: deque[Job]) -> list[Job]:
        """The next transaction's jobs: those with short texts, and a few of those that wait in `long`, at least one."""
        jobs: list[Job] = []
        while len(jobs) < MAX_JOBS and not (self._jobs.empty() and (jobs or long)):
            job = self._jobs.get()
            (long if chars_of(job.argument) > LONG_CHARS else jobs).append(job)
        room = MAX_LONG_CHARS
        while long and room > 0:
            room -= chars_of(long[0].argument)
            jobs.append(long.popleft())
        return jobs

    def _perform(self, jobs: list[Job]) -> None:
        """Commit the jobs together. If one of them makes that fail, commit each alone.

        A failure of the whole database (it is down, or locked) is retried once. Then it is every job's error, so that
        no job waits in line to learn it.
        """
        for _attempt in range(2):
            try:
                the_file.check()
                _commit(jobs)
                return
            except Error as error:
                if is_conflict(error) or not is_outage(error):  # such as a deadlock, of which this was the victim
                    break
                outages.record_failure()
                for job in jobs:
                    job.error = error
                let_go_after(error)
                if type(error.__cause__).__name__ == "PoolTimeout":  # to wait as long again would gain nothing
                    return
            except Exception:
                break
        else:
            return
        for job in jobs:
            _perform_alone(job)


def chars_of(argument: Any) -> int:
    """The length of the message in a job's argument."""
    return len(getattr(argument, "content", None) or getattr(argument, "question", None) or "")


def is_conflict(error: Error) -> bool:
    """A deadlock or a serialization failure (SQLSTATE 40…): a retry works."""
    return sqlstate(error).startswith("40")


def is_outage(error: Error) -> bool:
    """Whether the database is the trouble, and no job: it is away, or can't be written to."""
    return isinstance(error, OperationalError | InterfaceError) or sqlstate(error) == READ_ONLY


def let_go_after(error: Error) -> None:
    """Keep no connection that would fail again."""
    if sqlstate(error) == READ_ONLY:
        renew_after(error)
        connection.close()
    elif connection.vendor == "sqlite" and not is_busy(error):  # one of a read-only file stays so, though it answers
        connection.close()
    else:
        connection.close_if_unusable_or_obsolete()


def is_busy(error: Error) -> bool:
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _commit(jobs: list[Job]) -> None:
    groups: dict[Operation[Any, Any], list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.operation, []).append(job)
    with transaction.atomic(durable=True):
        # One order everywhere prevents deadlocks between processes.
        for operation, group in sorted(groups.items(), key=lambda item: item[0].__qualname__):
            for job, result in zip(group, operation([job.argument for job in group]), strict=True):
                job.result = result
    for job in jobs:
        job.error = None


def _perform_alone(job: Job) -> None:
    for _attempt in range(ATTEMPTS):
        try:
            _commit([job])
            return
        except Error as error:
            job.error = error
            let_go_after(error)
        except Exception as error:
            job.error = error
            return


def _deliver(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():  # the waiting task was cancelled
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


writer = Writer()
