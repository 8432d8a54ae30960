"""The file of a SQLite database under a running service. Once it is deleted or replaced, SQLite would go on to write to
the old one, which nobody will ever read: what was acknowledged would be lost."""

import logging
from pathlib import Path

from django.db import OperationalError, connection

logger = logging.getLogger(__name__)


class DatabaseFile:
    """Remembers which file it was. It asks the file system, for a microsecond, before each commit."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}
        self._gone = False

    def check(self) -> None:
        """Raises `OperationalError` where another file, or none, is in its place."""
        if connection.vendor != "sqlite":
            return
        name = connection.settings_dict["NAME"]
        found = _identity(name)
        gone = found != self._known.setdefault(name, found)
        if gone and not self._gone:
            logger.error("the database file was deleted or replaced: nothing is stored until a restart")
        self._gone = gone
        if gone:
            raise OperationalError("the database file was deleted or replaced")


def _identity(name: str) -> tuple[int, int]:
    try:
        found = Path(name).stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


the_file = DatabaseFile()
