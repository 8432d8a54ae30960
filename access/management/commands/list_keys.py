"""manage.py list_keys: the keys of each client, and their state."""

from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, no_translations

from access import clients
from access.management.arguments import client_called
from access.models import Key
from web.logs import visible

COLUMNS = ("KEY", "CLIENT", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "STATE")


class Command(BaseCommand):
    help = "Lists the keys that are neither revoked nor expired, as a table. Times are in UTC."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--client", help="those of this client alone: its name or its id")
        parser.add_argument("--all", action="store_true", help="also those that are revoked or expired")

    @no_translations
    def handle(self, *args: Any, client: str | None, **options: Any) -> None:
        owner = None if client is None else client_called(client)
        keys = clients.keys_of(owner, include_unusable=options["all"])
        for line in table([COLUMNS, *map(row, keys)]):
            self.stdout.write(line)


def row(key: Key) -> tuple[str, ...]:
    owner = key.client
    scopes = ",".join(owner.scopes) or "none"
    times = (moment(key.created_at), moment(key.expires_at), moment(key.last_used_at))
    state = str(clients.STATES[clients.state_of(key)])
    return (clients.public_name(key), owner.name, key.label or "-", scopes, *times, state)


def moment(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if value else "-"


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their content, two spaces apart."""
    shown = [[visible(cell) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in shown]
