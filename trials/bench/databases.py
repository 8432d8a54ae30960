"""The databases of the measurements, and their rows after a run."""

import contextlib
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from testing import postgres
from testing.environment import ROOT
from trials.bench.fill import Filling, fill_postgresql, fill_sqlite

COUNT = "SELECT role, status, count(*) FROM sessions_api_message GROUP BY role, status"


@dataclass(frozen=True)
class Database:
    """The database of one run. `server` is the process id of the database server, if there is one."""

    url: str
    server: int | None = None

    def counts(self) -> dict[tuple[str, str], int]:
        """Messages by role and status, read without the service."""
        rows = _sqlite_rows(self.url) if self.server is None else _postgres_rows(self.url)
        return {(str(role), str(status)): int(count) for role, status, count in rows}

    def fill(self, *fillings: Filling) -> None:
        """The tables must exist already."""
        if self.server is None:
            with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as file:
                fill_sqlite(file, list(fillings))
        else:
            with psycopg.connect(self.url, autocommit=True) as connection:
                fill_postgresql(connection, list(fillings))


def _sqlite_rows(url: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(COUNT).fetchall()


def _postgres_rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(COUNT).fetchall()


@contextlib.contextmanager
def sqlite(scratch: Path) -> Iterator[Database]:
    """A new file."""
    path = scratch / f"{secrets.token_hex(6)}.sqlite3"
    try:
        yield Database(f"sqlite:///{path}")
    finally:
        for file in scratch.glob(f"{path.name}*"):
            file.unlink()


@contextlib.contextmanager
def postgresql(server: postgres.Server) -> Iterator[Database]:
    """A new database on the server."""
    assert server.process is not None
    url = postgres.create_database(server.url)
    try:
        yield Database(url, server.process.pid)
    finally:
        postgres.drop_database(url)


@contextlib.contextmanager
def postgres_server() -> Iterator[postgres.Server]:
    """Raises `postgres.Missing` without binaries. Unlike the tests' server, this one waits for the disk."""
    with postgres.Server(fsync="on", full_page_writes="on") as server:
        with psycopg.connect(server.url) as connection:
            for name in ("fsync", "full_page_writes", "synchronous_commit"):
                row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
                if row != ("on",):
                    raise RuntimeError(f"PostgreSQL runs with {name}={row}: its figures would say nothing")
        yield server


def each(wanted: str, scratch: Path) -> Iterator[Database]:
    """A new database of each requested kind: sqlite, postgres or both."""
    if wanted != "postgres":
        with sqlite(scratch) as database:
            yield database
    if wanted != "sqlite":
        with postgres_server() as server, postgresql(server) as database:
            yield database


def run_inside(code: str, database: Database, scratch: Path) -> None:
    """Run Python in a separate process, with Django set up for this database."""
    own = {
        "DJANGO_SETTINGS_MODULE": "bancobot_project.settings",
        "DATABASE_URL": database.url,
        "DATA_DIR": str(scratch),
        "ENV_FILE": os.devnull,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "testserver",
    }
    command = [sys.executable, "-c", f"import django; django.setup(); {code}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)


def postgres_version(server: postgres.Server) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "unknown"
