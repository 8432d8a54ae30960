"""uvicorn, which serves where gunicorn can't: on Windows. One process."""

import asyncio
import functools
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from bancobot_project.server import lifespan
from bancobot_project.server.http.connections import BACKLOG, MAX_HEAD_BYTES, most_idle
from bancobot_project.server.http.listening import bound
from bancobot_project.server.http.uvicorn_protocol import Protocol

logger = logging.getLogger("bancobot.server")

MARGIN_SECONDS = 5  # beyond GRACEFUL_TIMEOUT, for what is no turn
TICK_SECONDS = 0.1


class Server(uvicorn.Server):
    """Stops as gunicorn does: no new turns, GRACEFUL_TIMEOUT for those that run. A second Ctrl-C ends these at once."""

    _hurried = False

    def __init__(self, config: uvicorn.Config, listeners: list[socket.socket]) -> None:
        super().__init__(config)
        self.listeners = listeners
        self._addresses = [listener.getsockname()[:2] for listener in listeners]

    async def startup(self, sockets: Any = None) -> None:
        asyncio.get_running_loop().set_exception_handler(complain)
        await super().startup(self.listeners)

    async def on_tick(self, counter: int) -> bool:
        """Python's loop for Windows closes a listening socket where a client breaks off just then (its gh-93821)."""
        for number, listener in enumerate(self.listeners):
            if listener.fileno() < 0 and counter % 10 == 0:
                await self._listen_again(number)
        return await super().on_tick(counter)

    async def _listen_again(self, number: int) -> None:
        try:
            self.listeners[number] = bound(*self._addresses[number])
        except ImproperlyConfigured as problem:
            logger.error("%s", problem)
            return
        made = functools.partial(Protocol, self.config, self.server_state, self.lifespan.state)
        server = await asyncio.get_running_loop().create_server(made, sock=self.listeners[number], backlog=BACKLOG)
        self.servers.append(server)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn would end the process by the same signal in the end, and stop without a record at a second one."""
        self._hurried |= self.should_exit and sig != signal.SIGTERM  # that one may be repeated by a program
        self.should_exit = True

    async def shutdown(self, sockets: Any = None) -> None:
        lifespan.begin_to_stop()
        self._end_by_force(settings.GRACEFUL_TIMEOUT + 2 * MARGIN_SECONDS)
        ending = asyncio.create_task(self._end_turns())
        for server in self.servers:
            server.close()
        self.servers = []  # uvicorn would wait for their connections; on Windows one that was reset never ends for it
        await super().shutdown(self.listeners)
        ending.cancel()

    async def _end_turns(self) -> None:
        """When the time is over, turns end as interrupted, and who listens is told."""
        seconds = 0.0
        while seconds < settings.GRACEFUL_TIMEOUT and not self._hurried:
            await asyncio.sleep(TICK_SECONDS)
            seconds += TICK_SECONDS
        await lifespan.end_turns()
        if self._hurried:
            await asyncio.sleep(TICK_SECONDS)  # in which listeners hear it
            for task in list(self.server_state.tasks):
                task.cancel()
            await asyncio.sleep(TICK_SECONDS)
            for open_one in list(self.server_state.connections):
                open_one.transport.abort()

    def _end_by_force(self, seconds: float) -> None:
        """A thread may be at work that nobody waits for any more. gunicorn's parent does this."""
        timer = threading.Timer(seconds, os._exit, [1])
        timer.daemon = True
        timer.start()


def config() -> uvicorn.Config:
    return uvicorn.Config(
        import_string(settings.ASGI_APPLICATION),
        interface="asgi3",
        http=Protocol,
        ws="none",
        loop="asyncio",  # on Windows this is the Proactor loop: the other one knows 512 connections
        lifespan="on",
        log_config=None,
        access_log=False,  # the application writes it
        proxy_headers=False,  # application.py does it, by TRUSTED_PROXIES
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.GRACEFUL_TIMEOUT + MARGIN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        workers=1,
    )


def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does, but not of clients that break off, which its loop for Windows does."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


def serve(host: str, ports: Iterable[int], workers: int) -> None:
    """Serve until a signal ends it; `workers` are for gunicorn."""
    tell(workers)
    Protocol.most_idle = most_idle()
    logging.getLogger("uvicorn.error").setLevel(max(logging.ERROR, logging.getLogger().level))
    Server(config(), [bound(host, port) for port in ports]).run()


def tell(workers: int) -> None:
    if workers > 1:
        logger.warning("uvicorn serves, in one process: --workers and WORKERS are for gunicorn, which Windows has not.")
    else:
        logger.info("uvicorn serves, in one process.")
