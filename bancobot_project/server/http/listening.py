"""Where the service may listen, and can; and what it says and does once before it begins."""

import errno
import gc
import ipaddress
import logging
import socket
import sqlite3
import sys
from collections.abc import Iterable

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections

from bancobot_project.configuration.hosts import in_address
from sessions_api.sqlite import has_race

if sys.platform != "win32":
    import resource

logger = logging.getLogger("bancobot.server")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_open_access(host: str) -> None:
    """Without keys the service is for this machine only, unless the operator allows more explicitly."""
    if settings.ACCESS_MODE == "open" and not is_loopback(host) and not settings.ALLOW_OPEN_ACCESS:
        raise ImproperlyConfigured(
            f"Everybody who reaches {host} could use this service: it asks nobody for a key. Set ACCESS_MODE=keys, or "
            f"listen on 127.0.0.1, or set ALLOW_OPEN_ACCESS=true if that is what you want.{_whose_host(host)}"
        )


def check_addresses(host: str, ports: Iterable[int]) -> None:
    """Raise `ImproperlyConfigured` where the service cannot listen. gunicorn would try for seconds, and then trace."""
    for port in ports:
        bound(host, port).close()


def bound(host: str, port: int) -> socket.socket:
    """A socket with this address. Raises `ImproperlyConfigured` where it can't be had."""
    # As gunicorn: a name is its IPv4 address.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two programs listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif listener.family == socket.AF_INET6:  # and :: would be IPv6 alone
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
    except (OSError, UnicodeError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or "no such host"
        hint = "" if getattr(problem, "errno", 0) == errno.EADDRINUSE else _whose_host(host)
        raise ImproperlyConfigured(
            f"The service cannot listen on {in_address(host)}:{port}: {reason.rstrip('.')}.{hint}"
        ) from None
    return listener


def _whose_host(host: str) -> str:
    """A hint where it may be nobody's wish: some shells and conda set HOST to the machine's name or kind."""
    if not settings.HOST_IS_INHERITED or host != settings.HOST:
        return ""
    return f" HOST says {host}, which a shell may have set: --host 127.0.0.1 or HOST=127.0.0.1 overrides it."


def allow_many_connections() -> None:
    """A turn in flight takes two file descriptors. Many systems allow a process 1,024 unless it asks for more."""
    if sys.platform != "win32":  # where nothing limits them
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def warn_of_sqlite() -> None:
    """Warn once where the linked SQLite has the race in resetting its write-ahead log."""
    if has_race():
        logger.warning(
            "SQLite %s can, very rarely, damage its database when two processes reset the write-ahead log at once. "
            "Use SQLite 3.51.3 or later, or PostgreSQL, for what you cannot lose.",
            sqlite3.sqlite_version,
        )


def release_connections() -> None:
    """Close what a forked worker would inherit."""
    connections.close_all()
    close_pool = getattr(connection, "close_pool", None)  # only PostgreSQL has one
    if close_pool is not None:
        close_pool()
    gc.collect()
    gc.freeze()  # otherwise a worker's first collection would write to the memory that both share, and so copy it
