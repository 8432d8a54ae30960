"""gunicorn with its ASGI worker, as BancoBot runs it."""

import errno
import functools
import gc
import ipaddress
import logging
import resource
import socket
import sqlite3
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.utils.module_loading import import_string
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gasgi import ASGIWorker

from bancobot_project.configuration.hosts import in_address
from bancobot_project.server import lifespan
from bancobot_project.server.protocol import Connections, Protocol
from sessions_api.sqlite import has_race

logger = logging.getLogger("bancobot.server")

MARGIN_SECONDS = 5
BACKLOG = 2048  # connections that wait to be accepted


class QuietLogger(Logger):
    """Sends gunicorn's messages to the service's log, in its format. The application writes the access log."""

    access_log_enabled = False

    def setup(self, cfg: Any) -> None:
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True
        self.error_log.setLevel(max(logging.WARNING, logging.getLogger().level))


class Worker(ASGIWorker):
    """gunicorn's ASGI worker. It tells the application and its connections when GRACEFUL_TIMEOUT begins.

    The parent waits `MARGIN_SECONDS` longer, so that unfinished turns can be recorded.
    """

    def init_process(self) -> None:
        self.connections = Connections()
        self.cfg.set("graceful_timeout", settings.GRACEFUL_TIMEOUT)
        super().init_process()

    def handle_exit_signal(self) -> None:
        lifespan.begin_to_stop()
        super().handle_exit_signal()
        self.connections.stop()

    def _setup_event_loop(self) -> None:
        super()._setup_event_loop()
        # gunicorn's worker passes no backlog, and asyncio's default of 100 would keep a burst of clients waiting.
        listen = functools.partial(self.loop.create_server, lambda: Protocol(self), backlog=BACKLOG)
        setattr(self.loop, "create_server", lambda _gunicorns_protocol, **options: listen(**options))  # noqa: B010

    async def _shutdown(self) -> None:
        if self.alive:  # no signal came: the parent was killed
            self.handle_exit_signal()
        await super()._shutdown()


class Server(BaseApplication):
    """The service on every one of `addresses` (host:port)."""

    def __init__(self, addresses: list[str], workers: int) -> None:
        self.addresses = addresses
        self.workers = workers
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options().items():
            self.cfg.set(name, value)

    def options(self) -> dict[str, Any]:
        return {
            "bind": self.addresses,
            "workers": self.workers,
            "worker_class": Worker,
            "worker_connections": 10_000,
            "backlog": BACKLOG,
            "asgi_loop": "asyncio",  # otherwise gunicorn uses uvloop wherever it is installed
            "keepalive": settings.KEEP_ALIVE_SECONDS,
            "limit_request_line": 8190,
            "limit_request_field_size": 16_380,
            "forwarded_allow_ips": "",  # application.py does it, by TRUSTED_PROXIES
            "graceful_timeout": settings.GRACEFUL_TIMEOUT + MARGIN_SECONDS,
            "timeout": 60,
            "asgi_disconnect_grace_period": 3,
            "control_socket_disable": True,
            "logger_class": QuietLogger,
            "proc_name": "bancobot",
        }

    def load(self) -> Any:
        """The application, made after the fork. Before it there must be no event loop and no connection."""
        return import_string(settings.ASGI_APPLICATION)


def allow_many_connections() -> None:
    """A turn in flight takes two file descriptors. Many systems allow a process 1,024 unless it asks for more."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
        try:
            # As gunicorn: a name is its IPv4 address.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except (OSError, UnicodeError) as problem:
            reason = getattr(problem, "strerror", None) or "no such host"
            hint = "" if getattr(problem, "errno", 0) == errno.EADDRINUSE else _whose_host(host)
            raise ImproperlyConfigured(
                f"The service cannot listen on {in_address(host)}:{port}: {reason}.{hint}"
            ) from None


def _whose_host(host: str) -> str:
    """A hint where it may be nobody's wish: some shells and conda set HOST to the machine's name or kind."""
    if not settings.HOST_IS_INHERITED or host != settings.HOST:
        return ""
    return f" HOST says {host}, which a shell may have set: --host 127.0.0.1 or HOST=127.0.0.1 overrides it."


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
