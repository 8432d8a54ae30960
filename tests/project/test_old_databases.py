"""A database made before models moved to other apps: it migrates without touching a row, and back.

`old_database/` has dumps of two that the service of commit 8dc15cf made: a client with a key and a limit of tokens,
conversations (answered again, copied, closed, erased), feedback, an operator who logged in, and wrong passwords.
"""

import contextlib
import gzip
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from testing import postgres
from testing.service import manage, new_database

DUMPS = Path(__file__).parent / "old_database"
BEFORE_THE_MOVES = ("access", "0003_copies_and_imports")
GROWING = {"django_migrations", "django_content_type", "auth_permission"}  # Django adds what new models need
ROWS = {
    "access_auditentry": 13,
    "access_key": 2,
    "bancobot_project_passwordtries": 2,
    "sessions_api_feedback": 1,
    "sessions_api_message": 12,
    "sessions_api_session": 3,
}

Rows = dict[str, set[tuple[Any, ...]]]


class OldDatabase:
    def __init__(self, directory: Path) -> None:
        self.url = new_database(directory)
        self.on_postgresql = self.url.startswith("postgres")
        self.settings = {
            "DATABASE_URL": self.url,
            "DATA_DIR": str(directory),
            "SECRET_KEY": secrets.token_urlsafe(50),
        }
        self.restore()

    def connect(self) -> Any:
        return psycopg.connect(self.url) if self.on_postgresql else sqlite3.connect(urlsplit(self.url).path)

    def restore(self) -> None:
        name = "postgresql" if self.on_postgresql else "sqlite"
        dump = gzip.decompress((DUMPS / f"{name}.sql.gz").read_bytes()).decode()
        with contextlib.closing(self.connect()) as connection:
            if self.on_postgresql:
                connection.execute(dump)
            else:
                connection.executescript(dump)
            connection.commit()

    def rows(self) -> Rows:
        """Those of every table, the search index's own too."""
        with contextlib.closing(self.connect()) as connection:
            return {
                name: {tuple(map(repr, row)) for row in connection.execute(f'SELECT * FROM "{name}"')}
                for name in self.tables(connection)
            }

    def tables(self, connection: Any) -> list[str]:
        real = "name NOT LIKE 'sqlite_%' AND sql NOT LIKE 'CREATE VIRTUAL%'"  # the index keeps its rows in real ones
        query = f"SELECT name FROM sqlite_schema WHERE type = 'table' AND {real}"
        if self.on_postgresql:
            query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return [row[0] for row in connection.execute(query)]

    def applied(self) -> set[tuple[str, str]]:
        with contextlib.closing(self.connect()) as connection:
            return set(connection.execute("SELECT app, name FROM django_migrations"))

    def manage(self, *arguments: str) -> str:
        answer = manage(self.settings, *arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout


@pytest.fixture
def old(tmp_path: Path) -> Iterator[OldDatabase]:
    database = OldDatabase(tmp_path)
    yield database
    if database.on_postgresql:
        postgres.drop_database(database.url)


def assert_untouched(before: Rows, after: Rows) -> None:
    assert after.keys() == before.keys()
    assert {name: after[name] for name in before.keys() - GROWING} == {
        name: before[name] for name in before.keys() - GROWING
    }
    assert {name: before[name] - after[name] for name in GROWING} == {name: set() for name in GROWING}


def test_an_old_database_migrates_and_goes_back_without_touching_a_row(old: OldDatabase) -> None:
    rows, applied = old.rows(), old.applied()
    assert {name: len(rows[name]) for name in ROWS} == ROWS
    old.manage("migrate", "--verbosity=0")
    old.manage("makemigrations", "--check", "--dry-run")
    assert ("access", "0004_login_attempts") in old.applied()
    assert_untouched(rows, old.rows())
    old.manage("migrate", "--verbosity=0", *BEFORE_THE_MOVES)
    assert old.applied() == {*applied, BEFORE_THE_MOVES}
    assert_untouched(rows, old.rows())


def test_todays_code_reads_an_old_database(old: OldDatabase) -> None:
    old.manage("migrate", "--verbosity=0")
    exported = old.manage("export_sessions", "--format", "jsonl", "--output", "-")
    assert len(exported.splitlines()) == 3
    assert "Quero um cartão de crédito" in exported
    assert "Agência" in old.manage("list_keys")
