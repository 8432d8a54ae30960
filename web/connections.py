"""PostgreSQL connections that lead to a server which can't be written to any more: a primary that became a standby."""

import time

from django.db import connection

READ_ONLY = "25006"
PAUSE_SECONDS = 1.0  # a database that stays read-only is not connected to with every request

_renewed_at = 0.0


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's code of a database error; empty where there is none."""
    return str(getattr(error.__cause__, "sqlstate", None) or "")


def renew_after(error: BaseException) -> None:
    """Have the pool connect anew, if the server refused to write. The next user of a connection finds the primary.

    Connections in use are closed when they are given back. Those that the server has closed need no such care: the
    pool looks before it hands one out.
    """
    global _renewed_at
    if sqlstate(error) != READ_ONLY or time.monotonic() - _renewed_at < PAUSE_SECONDS:
        return
    _renewed_at = time.monotonic()
    if pool := getattr(connection, "pool", None):
        pool.drain()
