"""What only SQLite needs: wiping deleted text, a small cache, a warning of old versions."""

import contextlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from typing import Any

from django.db import OperationalError, connection

logger = logging.getLogger(__name__)

REWRITE_BYTES = 32 * 1024 * 1024  # takes about 0.3 s, while turns wait, and as much memory
CHECKPOINT_ATTEMPTS = 50
WAIT_MS = 100  # waiting longer for a lock would keep others from writing

_one_at_a_time = threading.Lock()
_last_began_at = 0.0
_next_at = 0.0


def wipe() -> None:
    """Remove the remains of deleted rows from the file and the write-ahead log.

    `secure_delete` overwrites a row at its last place. Copies can remain in unused space where the row was before
    SQLite moved it; only a rewrite of the file removes them for sure. The search index keeps deleted words until its
    parts are merged. The operator has to do both for a large file (docs/operations.md).
    """
    global _last_began_at, _next_at
    if connection.vendor != "sqlite":
        return
    asked_at = time.monotonic()
    with _one_at_a_time:
        if _last_began_at > asked_at:
            return  # one that began after our rows were deleted has done it
        time.sleep(max(0.0, _next_at - time.monotonic()))  # half of the time is left to those who wait to write
        _last_began_at = time.monotonic()
        if _size() <= REWRITE_BYTES:
            _rewrite()
        _empty_journal()
        now = time.monotonic()
        _next_at = now + (now - _last_began_at)


def _size() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return int(cursor.fetchone()[0])


def _rewrite() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO sessions_api_words(sessions_api_words) VALUES ('optimize')")
            cursor.execute("VACUUM")
    except OperationalError as problem:  # another write took longer than the busy timeout
        logger.warning("the database file could not be rewritten", extra={"reason": str(problem)})


def _empty_journal() -> None:
    """Move the write-ahead log into the database, and truncate it."""
    with _short_waits(), connection.cursor() as cursor:
        for _attempt in range(CHECKPOINT_ATTEMPTS):
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = cursor.fetchone()
            if not busy:
                return
            time.sleep(WAIT_MS / 1000)  # a reader uses an old snapshot, usually for a moment
    logger.warning("the write-ahead log could not be emptied: the next checkpoint will overwrite it")


@contextlib.contextmanager
def _short_waits() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        before = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {WAIT_MS}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {before}")


def keep_private(connection: Any, **more: Any) -> None:
    """Only the service's user may read the database's files, wherever they are. SQLite makes them as the umask says."""
    if connection.vendor != "sqlite":
        return
    for path in (f"{connection.settings_dict['NAME']}{end}" for end in ("", "-wal", "-shm")):
        with contextlib.suppress(OSError):  # not there, or another user's
            if stat.S_IMODE(os.stat(path).st_mode) & 0o077:  # noqa: PTH116 - a name such as file:… is no path
                os.chmod(path, 0o600)  # noqa: PTH101


def keep_little_cached() -> None:
    """For commands that read or write everything once: they need no 16 MB of cached pages."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA cache_size = -2000")


FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def has_race() -> bool:
    """Whether the database is SQLite in a version that can, very rarely, damage it."""
    version = sqlite3.sqlite_version_info
    fixed = any(version[:2] == good[:2] and version >= good for good in FIXED) or version >= (3, 51, 3)
    return connection.vendor == "sqlite" and not fixed
