"""The file of a SQLite database under a running service.

Once it is deleted or replaced, SQLite goes on to write to the old one, which nobody will ever read. The same is true of
its write-ahead log, which goes away with connections to a file that was in its place for a while.
"""

import logging
import os

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

logger = logging.getLogger(__name__)

Identity = tuple[int, int]


class DatabaseFile:
    """Remembers which files they were. It asks the file system, for some microseconds, before each commit."""

    def __init__(self) -> None:
        self._known: dict[str, Identity] = {}
        self._log: tuple[object, Identity] = (None, (0, 0))  # of the connection that writes to it
        self._gone = False

    def check(self) -> None:
        """Raises `OperationalError` where the connection writes to files that are not in their places any more."""
        current = connections[DEFAULT_DB_ALIAS]
        if current.vendor != "sqlite":
            return
        name = current.settings_dict["NAME"]
        found = _identity(name)
        gone = found != self._known.setdefault(name, found)
        if gone and not self._gone:
            logger.error("the database file was deleted or replaced: nothing is stored until it is back, or a restart")
        self._gone = gone
        if gone or self._lost_its_log(current.connection, name + "-wal"):
            raise OperationalError("the database file was deleted or replaced")

    def _lost_its_log(self, current: object, name: str) -> bool:
        before = self._log
        self._log = (current, _identity(name))
        return current is not None and current is before[0] and before[1] not in ((0, 0), self._log[1])


def _identity(name: str) -> Identity:
    try:
        found = os.stat(name)  # noqa: PTH116 - before each commit; a Path takes as long again
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


the_file = DatabaseFile()
