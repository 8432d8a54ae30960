"""What keeps the commands small."""

from django.db import connection


def keep_little_cached() -> None:
    """What is read or written once needs no 16 MB of SQLite's pages."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA cache_size = -2000")
