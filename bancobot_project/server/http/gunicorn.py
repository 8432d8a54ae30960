"""gunicorn with its ASGI worker, as BancoBot runs it."""

import functools
import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gasgi import ASGIWorker

from bancobot_project.configuration.hosts import in_address
from bancobot_project.server import lifespan
from bancobot_project.server.http.connections import BACKLOG, MAX_FIELD_BYTES, MAX_LINE_BYTES
from bancobot_project.server.http.gunicorn_protocol import Connections, Protocol

MARGIN_SECONDS = 5


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
            "limit_request_line": MAX_LINE_BYTES,
            "limit_request_field_size": MAX_FIELD_BYTES,
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


def serve(host: str, ports: Iterable[int], workers: int) -> None:
    """Serve until a signal ends it."""
    Server([f"{in_address(host)}:{port}" for port in ports], workers).run()
