"""A database made before models moved to other apps: it migrates without touching a row, and back.

`old_database/` has dumps of two that the service of commit 8dc15cf made: a client with a key and a limit of tokens,
conversations (answered again, copied, closed, erased), feedback, an operator who logged in, and wrong passwords.
"""

import contextlib
import gzip
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from testing import postgres
from testing.service import manage

DUMPS = Path(__file__).parent / "old_database"
MOVES = {("access", "0004_login_attempts"), ("bancobot_project", "0002_password_tries_move")}
BEFORE_THE_MOVES = ("access", "0003_copies_and_imports")
MADE_ANEW = {"sessions_api_words_idx", "sessions_api_words_data", "sessions_api_unindexed"}  # SQLite's index of words
GROWING = {"django_migrations", "django_content_type", "auth_permission"}  # Django adds what new models need
ROWS = {
    "access_auditentry": 13,
    "access_key": 2,
    "bancobot_project_passwordtries": 2,
    "sessions_api_feedback": 1,
    "sessions_api_message": 12,
    "sessions_api_session": 3,
}

TABLES = {
    # The virtual tables of the search index keep their rows in real ones.
    False: "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
    "AND sql NOT LIKE 'CREATE VIRTUAL%'",
    True: "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
}

TITLES_WORDS = "SELECT words::text FROM sessions_api_messagewords WHERE session_id = 1 AND position = -1"

Columns = dict[str, list[str]]
Rows = dict[str, set[tuple[Any, ...]]]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


class OldDatabase:
    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self.on_postgresql = self.url.startswith("postgres")
        self.settings = {
            "DATABASE_URL": self.url,
            "DATA_DIR": str(directory),
            "SECRET_KEY": secrets.token_urlsafe(50),
        }
        self.restore()

    def connect(self) -> Any:
        return psycopg.connect(self.url) if self.on_postgresql else sqlite3.connect(self.url.removeprefix("sqlite:///"))

    def restore(self) -> None:
        name = "postgresql" if self.on_postgresql else "sqlite"
        dump = gzip.decompress((DUMPS / f"{name}.sql.gz").read_bytes()).decode()
        with contextlib.closing(self.connect()) as connection:
            if self.on_postgresql:
                connection.execute(dump)
            else:
                connection.executescript(dump)
            connection.commit()

    def columns(self) -> Columns:
        """Those of every table, the search index's own too."""
        with contextlib.closing(self.connect()) as connection:
            tables = [name for (name,) in connection.execute(TABLES[self.on_postgresql])]
            rows = {name: connection.execute(f'SELECT * FROM "{name}" LIMIT 0') for name in tables}
            return {name: [column[0] for column in found.description] for name, found in rows.items()}

    def execute(self, statement: str) -> str:
        """What the statement finds, as text."""
        with contextlib.closing(self.connect()) as connection:
            done = connection.execute(statement)
            found = str(done.fetchall()) if done.description else ""
            connection.commit()
            return found

    def rows(self, columns: Columns) -> Rows:
        with contextlib.closing(self.connect()) as connection:
            return {
                name: {tuple(map(repr, row)) for row in connection.execute(f"SELECT {_quoted(names)} FROM {name}")}
                for name, names in columns.items()
            }

    def applied(self) -> set[tuple[str, str]]:
        with contextlib.closing(self.connect()) as connection:
            return set(connection.execute("SELECT app, name FROM django_migrations"))

    def manage(self, *arguments: str) -> str:
        answer = manage(self.settings, *arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout


@pytest.fixture
def old(tmp_path: Path, database_url: str) -> Iterator[OldDatabase]:
    database = OldDatabase(tmp_path, database_url)
    yield database
    if database.on_postgresql:
        postgres.drop_database(database.url)


def changed(before: Rows, after: Rows) -> set[str]:
    """The tables that have other rows than before, or lack some where Django adds its own."""
    kept = [name for name in before if name not in MADE_ANEW]
    return {name for name in kept if (before[name] - after[name] if name in GROWING else before[name] != after[name])}


def test_an_old_database_migrates_and_goes_back_without_touching_a_row(old: OldDatabase) -> None:
    columns, applied = old.columns(), old.applied()
    rows = old.rows(columns)
    assert {name: len(rows[name]) for name in ROWS} == ROWS
    old.manage("migrate", "--verbosity=0")
    old.manage("makemigrations", "--check", "--dry-run")
    assert old.applied() >= {*applied, *MOVES}
    assert changed(rows, old.rows(columns)) == set()
    old.manage("migrate", "--verbosity=0", *BEFORE_THE_MOVES)
    assert old.applied() >= applied
    assert not old.applied() & MOVES
    assert changed(rows, old.rows(columns)) == set()


def test_todays_code_reads_an_old_database(old: OldDatabase) -> None:
    old.execute("UPDATE sessions_api_session SET title = 'Cartão🙂antigo' WHERE id = 1")
    old.manage("migrate", "--verbosity=0")
    assert not old.on_postgresql or "'antigo' 'cartao'" in old.execute(TITLES_WORDS)
    exported = old.manage("export_sessions", "--format", "jsonl", "--output", "-")
    assert len(exported.splitlines()) == 3
    assert "Quero um cartão de crédito" in exported
    assert "Agência" in old.manage("list_keys")


def test_the_comparison_sees_a_row_that_has_changed() -> None:
    old: Rows = {"a": {(1, 2)}, "django_migrations": {(1,)}}
    assert changed(old, {"a": {(1, 2)}, "django_migrations": {(1,), (2,)}}) == set()
    assert changed(old, {"a": {(1, 2), (3, 4)}, "django_migrations": {(2,)}}) == {"a", "django_migrations"}
