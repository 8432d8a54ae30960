"""Poolers such as PgBouncer that give each transaction another connection to PostgreSQL.

A statement that was prepared is on one of these connections alone. On another, the same name is unknown, or it is
another client's statement, which would then run in the place of ours.
"""

from typing import Any

from django.conf import settings


def beware_of_poolers(connection: Any, **more: Any) -> None:
    """Prepare nothing on a connection that leads through a pooler. A signal's receiver, of each new connection."""
    if connection.vendor != "postgresql" or settings.DATABASE_PREPARED_STATEMENTS != "auto":
        return
    server = connection.connection
    if server.prepare_threshold is not None and not hasattr(server, "leads_to"):  # a pool gives it out many times
        server.leads_to = server.execute("SELECT pg_backend_pid()").fetchone()[0]
        if is_pooler(server):
            server.prepare_threshold = None


def is_pooler(server: Any) -> bool:
    """Whether another process answers than the one that the connection announced: a pooler can't know that before."""
    return bool(server.leads_to != server.info.backend_pid)
