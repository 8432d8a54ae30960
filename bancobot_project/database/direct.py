"""A connection to PostgreSQL beside the pool, which would only say that it has none to give."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def direct() -> Iterator[Any]:
    """One for a moment, which commits each statement. Raises Django's errors."""
    ours: Any = connection  # PostgreSQL's
    parameters = ours.get_connection_params() | {"autocommit": True, "cursor_factory": None}
    with connection.wrap_database_errors:
        server = ours.Database.connect(**parameters)
    try:
        with connection.wrap_database_errors:
            yield server
    finally:
        server.close()
