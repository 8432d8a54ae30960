"""The versions of SQLite whose write-ahead log can, very rarely, be corrupted when two processes reset it at once."""

import sqlite3

from django.db import connection

FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def has_race() -> bool:
    """Whether the database is SQLite, and the linked version has that fault."""
    version = sqlite3.sqlite_version_info
    fixed = any(version[:2] == good[:2] and version >= good for good in FIXED) or version >= (3, 51, 3)
    return connection.vendor == "sqlite" and not fixed
