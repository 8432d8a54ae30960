"""The state of the service in a few lines for its operator. Other packages add theirs."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from sessions_api.console.formatting import size
from sessions_api.models import Lease
from sessions_api.retention.maintenance import LEASE_SECONDS
from sessions_api.sqlite import has_race
from web.moments import lasting


@dataclass(frozen=True, slots=True)
class Fact:
    """`trouble`: whether the operator should act."""

    label: str
    value: Any
    trouble: bool = False
    hint: str = ""


Source = Callable[[], list[Fact]]
_sources: dict[str, Source] = {}


def add_source(name: str, source: Source) -> None:
    """Show these facts in the overview too. A source replaces an earlier one of the same name."""
    _sources[name] = source


def facts() -> list[Fact]:
    return [fact for source in (_service, _database, _housekeeping, *_sources.values()) for fact in source()]


def _service() -> list[Fact]:
    return [Fact(_("version"), settings.VERSION), Fact(_("access"), settings.ACCESS_MODE)]


def _database() -> list[Fact]:
    return _sqlite() if connection.vendor == "sqlite" else _postgresql()


def _sqlite() -> list[Fact]:
    file = str(connection.settings_dict["NAME"])
    hint = (
        _("It can, very rarely, damage its database. Use SQLite 3.51.3 or later, or PostgreSQL.") if has_race() else ""
    )
    return [
        Fact(_("database"), f"SQLite {sqlite3.sqlite_version}", has_race(), hint),
        Fact(_("size"), size(_length(file))),
        Fact(_("write-ahead log"), size(_length(f"{file}-wal"))),
    ]


def _length(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0


def _postgresql() -> list[Fact]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), pg_database_size(current_database())")
        version, octets = cursor.fetchone()
    return [Fact(_("database"), f"PostgreSQL {version.split()[0]}"), Fact(_("size"), size(octets))]


def _housekeeping() -> list[Fact]:
    """Whether a process does it. Each process tries to, every few seconds."""
    held = lasting("expires_at", timezone.now(), timedelta(seconds=LEASE_SECONDS))
    alive = Lease.objects.filter(held, name="maintenance").exists()
    hint = "" if alive else _("Nobody ends dead turns, counts and purges: is the service running?")
    return [Fact(_("housekeeping"), _("running") if alive else _("not running"), not alive, hint)]
