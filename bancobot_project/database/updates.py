"""One process at a time brings a database up to date; others wait for it, for as long as that may take.

On PostgreSQL the lock is a transaction's, on a connection of its own: a pooler in transaction mode would give a
session's lock away. On SQLite it is the folder's, which needs no file more; on Windows, where a
folder can't be locked, that of a file beside the database. All end with the process that has them.
"""

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from bancobot_project.database.direct import direct

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger("bancobot.server")

PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 0.2
SAY_SO_SECONDS = 10.0
A_LOCK = 7_020_262_671  # any number that no other program would take
# The transaction only waits: no limit of the server's may end it.
NO_LIMITS = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')
"""


def alone() -> AbstractContextManager[None]:
    """A context in which no other process updates this database. Raises `ImproperlyConfigured` after a long wait."""
    return _alone_on_sqlite() if connection.vendor == "sqlite" else _alone_on_postgresql()


@contextmanager
def _alone_on_postgresql() -> Iterator[None]:
    with direct() as server:

        def take() -> bool:
            server.execute("BEGIN")
            if server.execute("SELECT pg_try_advisory_xact_lock(%s)", [A_LOCK]).fetchone()[0]:
                server.execute(NO_LIMITS)
                return True
            server.execute("ROLLBACK")
            return False

        _wait_for(take)
        yield
        # The end of the connection is the end of the lock, also where the server has ended it before.


@contextmanager
def _alone_on_sqlite() -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            lock = _open_lock(Path(connection.settings_dict["NAME"]).resolve())
            held.callback(os.close, lock)
            _wait_for(lambda: _take(lock))
        except OSError as problem:  # a file system without such locks, or a folder that this user may not read
            logger.warning("the database can't be locked while it is updated", extra={"reason": problem.strerror})
        yield


def _open_lock(file: Path) -> int:
    if sys.platform == "win32":
        return os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    return os.open(file.parent, os.O_RDONLY)


def _take(lock: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the second is Windows' word for it
        return False
    return True


def _wait_for(take: Callable[[], bool]) -> None:
    began_at, said_at = time.monotonic(), -math.inf
    while not take():
        now = time.monotonic()
        if now - began_at > PATIENCE_SECONDS:
            raise ImproperlyConfigured(
                f"Another process has been updating the database for more than {PATIENCE_SECONDS / 60:g} minutes."
            )
        if now - said_at >= SAY_SO_SECONDS:
            logger.warning("waiting for another process, which is updating the database")
            said_at = now
        time.sleep(PAUSE_SECONDS)
