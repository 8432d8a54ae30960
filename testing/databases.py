"""Which database the services of a trial are started on, and how a trial ends."""

import contextlib
import os
from collections.abc import Iterator

from testing import postgres

DATABASES = ("sqlite", "postgresql")


@contextlib.contextmanager
def database(kind: str) -> Iterator[postgres.Server | None]:
    """Set DATABASE_URL, which names where testing.service makes its databases: SQLite where it is unset."""
    os.environ.pop("DATABASE_URL", None)
    if kind == "sqlite":
        yield None
        return
    # As in production, and unlike in the tests, a commit is on the disk.
    with postgres.Server(fsync="on", full_page_writes="on") as server:
        os.environ["DATABASE_URL"] = server.url
        yield server
    del os.environ["DATABASE_URL"]


def end(number: int, frame: object) -> None:
    """A signal's handler: leave, so that whatever was started is stopped."""
    raise SystemExit(128 + number)
