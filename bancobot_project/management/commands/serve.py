"""manage.py serve: bring the database up to date and serve."""

import logging
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from access.models import Key
from bancobot_project.configuration.hosts import in_address, listening_host
from bancobot_project.database.requirements import check_rights
from bancobot_project.server.http.listening import (
    allow_many_connections,
    check_addresses,
    check_open_access,
    release_connections,
    warn_of_sqlite,
)

ACCESS = {
    "open": "open: no key is asked for",
    "keys": "keys: of clients",
    "byok": "byok: callers bring the provider's key",
    "keys+byok": "keys+byok: keys of clients, or the provider's",
}

logger = logging.getLogger("bancobot.server")


def whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
            raise ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return read


def host(text: str) -> str:
    try:
        return listening_host(text)
    except ValueError:
        allowed = "an address or a host's name, without a port or a zone"
        raise ArgumentTypeError(f"must be {allowed}, not {text!r}") from None


def the_serve_of(server: str) -> Callable[[str, list[int], int], None]:
    """Raises `CommandError` where the server is not installed, or can't run here."""
    try:
        serve: Callable[[str, list[int], int], None] = import_string(settings.SERVERS[server])
    except ModuleNotFoundError as missing:
        listed = "requirements.txt" if server == settings.DEFAULT_SERVER else "requirements-dev.txt"
        other = f"{listed} has it" if server == "uvicorn" else "It does not run on Windows"
        raise CommandError(f"{server} can't be started: there is no module {missing.name}. {other}.") from None
    return serve


class Command(BaseCommand):
    help = "Migrates the database and serves the API, the admin and the documentation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host", type=host, default=settings.HOST, help="address to listen on (HOST, default 127.0.0.1)"
        )
        parser.add_argument(
            "--port",
            type=whole(0, 65535),
            action="append",
            help="port to listen on (PORT, default 8000); may be given twice",
        )
        parser.add_argument(
            "--workers",
            type=whole(1, settings.MAX_WORKERS),
            default=settings.WORKERS,
            help="processes of gunicorn (WORKERS, default 1)",
        )
        parser.add_argument(
            "--server",
            choices=settings.SERVERS,
            default=settings.DEFAULT_SERVER,
            help=f"gunicorn, or uvicorn, which runs on Windows and in one process (default {settings.DEFAULT_SERVER})",
        )

    def handle(self, *args: Any, host: str, port: list[int] | None, workers: int, server: str, **options: Any) -> None:
        serve = the_serve_of(server)
        ports = list(dict.fromkeys(port or [settings.PORT]))
        check_open_access(host)
        check_addresses(host, ports)
        call_command("migrate", interactive=False, verbosity=0)
        check_rights()
        warn_of_sqlite()
        self._announce(host, ports, server, workers)
        release_connections()
        allow_many_connections()
        serve(host, ports, workers)

    def _announce(self, host: str, ports: list[int], server: str, workers: int) -> None:
        database = settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]
        access = ACCESS[settings.ACCESS_MODE]
        if settings.ACCESS_MODE == "open" and not settings.ALLOW_OPEN_ACCESS:
            access += ", from this machine only"
        addresses = " ".join(f"http://{in_address(host)}:{number}" for number in ports)
        logger.info(
            "BancoBot %s on %s  access=%s  provider=%s  database=%s  server=%s  workers=%d",
            settings.VERSION, addresses, access, settings.LLM_PROVIDER, database, server,
            1 if server == "uvicorn" else workers,
        )  # fmt: skip
        for note in settings.NOTES:
            logger.warning("%s", note)
        if settings.ACCESS_MODE == "keys" and not Key.objects.exists():
            logger.warning("Nobody has a key yet: manage.py create_client NAME --key makes the first one.")
        if settings.HTTPS and not settings.TRUSTED_PROXIES:
            logger.warning("HTTPS is on, and TRUSTED_PROXIES names no proxy: the admin will send browsers in a circle.")
        if settings.LLM_PROVIDER == "demo":
            logger.info("No provider key is set: the built-in demonstration answers. See docs/settings.md.")
