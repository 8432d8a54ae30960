"""Which databases the service starts on, and which processes update them."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from bancobot_project.database import requirements, updates
from bancobot_project.database.direct import direct
from bancobot_project.database.poolers import beware_of_poolers, is_pooler
from testing import forked, postgres
from testing.client import wait_until
from testing.environment import clean_environment
from tests.project.databases.kinds import ALL_RIGHTS, on_postgresql, only_sqlite

pytestmark = pytest.mark.database  # also those that ask it by themselves


# What the start refuses


@pytest.fixture
def server(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """The settings of the connection, to be changed, and the right to ask PostgreSQL."""
    on_postgresql()
    before = {**connection.settings_dict, "OPTIONS": {**connection.settings_dict["OPTIONS"]}}
    with django_db_blocker.unblock():
        yield connection.settings_dict
        connection.settings_dict.update(before)


def refusal() -> str:
    with pytest.raises((CommandError, ImproperlyConfigured)) as refused:
        call_command("migrate", verbosity=0)
    return str(refused.value)


@contextmanager
def made(server: dict[str, Any], statement: str, then: str = "") -> Iterator[str]:
    """Another database, which the connection names for as long; {} is its name."""
    name, before = f"outro_{secrets.token_hex(4)}", server["NAME"]
    with direct() as here:
        here.execute(statement.format(name))
        here.execute(then.format(name)) if then else None
        server["NAME"] = name
        try:
            yield name
        finally:
            server["NAME"] = before
            here.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused(server: dict[str, Any], encoding: str) -> None:
    with made(server, f"CREATE DATABASE {{}} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0") as name:
        assert f"The database {name} has the encoding {encoding}" in refusal()


def test_a_database_that_is_read_only_is_refused(server: dict[str, Any]) -> None:
    with made(server, "CREATE DATABASE {}", "ALTER DATABASE {} SET default_transaction_read_only = on") as name:
        assert f"The database {name} is read-only" in refusal()


def test_what_is_wrong_with_an_address_is_said(server: dict[str, Any]) -> None:
    password, port = server["PASSWORD"], server["PORT"]
    for key, value, said in (
        ("NAME", "nada", 'there is no database "nada"'),
        ("PASSWORD", "errada-errada", "or the password is wrong"),
        ("USER", "ninguem", 'the user "ninguem" or'),
        ("PORT", "1", "nothing listens there"),
        ("HOST", "nao.existe.invalid", "its host name has no address"),
    ):
        before, server[key] = server[key], value
        answer = refusal()
        server[key] = before
        assert said in answer
        assert password not in answer
    for option, value, said in (
        ("sslmode", "require", "does not speak TLS"),
        ("sslmode", "talvez", "invalid sslmode"),
        ("options", "-csearch_path=nada", "The search_path (nada) must begin"),
        ("target_session_attrs", "read-only", "none of its hosts"),
    ):
        server["OPTIONS"] = {**server["OPTIONS"], option: value}
        assert said in refusal(), option
        del server["OPTIONS"][option]
    assert server["PORT"] == port


@pytest.mark.parametrize(
    "facts, said",
    [
        ((13, "UTF8", False, False, "public", '"$user", public', "ana"), "PostgreSQL 13 is too old"),
        ((15, "UTF8", True, True, "public", '"$user", public', "ana"), "is a standby"),
        ((15, "UTF8", False, False, "public", "bot, public", "ana"), r"search_path \(bot, public\) must begin"),
    ],
)
def test_a_server_that_can_not_be_used_is_refused(facts: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        requirements.check_postgresql(requirements.Facts(*facts))
    for schema, search_path in (("public", '"$user", public'), ("ana", '"$user", public'), ("Bot", '"Bot",public')):
        requirements.check_postgresql(requirements.Facts(14, "UTF8", False, False, schema, search_path, "ana"))


@pytest.mark.parametrize(
    "version, search, said", [((3, 34, 1), True, "3.34.1 is too old"), ((3, 40, 1), False, "FTS5")]
)
def test_an_sqlite_that_can_not_be_used_is_refused(version: tuple[int, ...], search: bool, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        requirements.check_sqlite(version, search)
    requirements.check_sqlite((3, 35, 0), True)


@contextmanager
def role(*rights: str) -> Iterator[str]:
    """A role with these rights, which the connection then has. The test's transaction takes all of it back."""
    name = f"fraco_{secrets.token_hex(4)}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name}")
        for right in rights:
            cursor.execute(f"GRANT {right} TO {name}")
        cursor.execute(f"SET ROLE {name}")
        yield name
        cursor.execute("RESET ROLE")


@pytest.mark.django_db
def test_rights_on_each_table_are_needed() -> None:
    on_postgresql()
    with role(ALL_RIGHTS):
        requirements.check_rights()
        requirements.check_rights_to_update()  # there is nothing to update
    some = role("SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public")
    with some, pytest.raises(ImproperlyConfigured, match=r"no right to DELETE on the table \w+"):
        requirements.check_rights()


@pytest.mark.django_db
def test_updates_need_the_right_to_make_and_to_alter_tables() -> None:
    on_postgresql()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions_api' AND name > '0006'")
    with (
        role(ALL_RIGHTS) as name,
        pytest.raises(ImproperlyConfigured, match=f"GRANT CREATE ON SCHEMA public TO {name}"),
    ):
        requirements.check_rights_to_update()
    with (
        role(ALL_RIGHTS, "CREATE ON SCHEMA public") as name,
        pytest.raises(ImproperlyConfigured, match=rf"The table \w+ belongs to \w+, so the user {name} can't update it"),
    ):
        requirements.check_rights_to_update()


@pytest.mark.django_db
def test_statements_are_prepared_where_no_pooler_is_in_between(settings: Any) -> None:
    on_postgresql()
    connection.ensure_connection()
    server: Any = connection.connection
    assert (server.prepare_threshold, server.leads_to) == (5, server.info.backend_pid)
    server.leads_to -= 1
    assert is_pooler(server)
    del server.leads_to
    settings.DATABASE_PREPARED_STATEMENTS = "true"
    beware_of_poolers(connection)
    assert not hasattr(server, "leads_to")


@pytest.mark.parametrize("content", [b"", b"Bom dia. Isto \xc3\xa9 um texto."])
def test_a_command_says_what_is_wrong_with_the_file(tmp_path: Path, content: bytes) -> None:
    only_sqlite()
    file = tmp_path / "db.sqlite3"
    file.write_bytes(content)
    result = forked.run(["create_client", "Ana"], environment(tmp_path, f"sqlite:///{file}"))
    assert result.returncode == 1
    said = "is no SQLite database" if content else "Run manage.py migrate"
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert file.read_bytes()[: len(content)] == content


def environment(data_dir: Path, url: str) -> dict[str, str]:
    return clean_environment(DATA_DIR=str(data_dir), DATABASE_URL=url, SECRET_KEY=secrets.token_urlsafe(50))


# Who updates it


def test_of_many_processes_one_updates_the_database_and_the_others_wait(tmp_path: Path) -> None:
    """Here the test itself is the first: they wait for it, and then for each other."""
    folder = tmp_path / "nº #1 100%25?"
    folder.mkdir()
    on_server = os.environ.get("DATABASE_URL", "").startswith("postgres")
    url = postgres.create_database(os.environ["DATABASE_URL"]) if on_server else ""
    processes = []
    try:
        with taken(url, folder):
            for number in range(3):
                log = tmp_path / f"{number}"
                processes.append((forked.Process(["migrate", "-v", "0"], environment(folder, url), log, log), log))
            wait_until(lambda: all(log.exists() and "waiting for" in log.read_text() for _, log in processes))
        assert [process.wait(60) for process, _ in processes] == [0, 0, 0], [log.read_text() for _, log in processes]
    finally:
        for process, _ in processes:
            if process.poll() is None:
                process.terminate()
        if on_server:
            postgres.drop_database(url)
    assert on_server or (folder / "bancobot.sqlite3").stat().st_size > 0


@contextmanager
def taken(url: str, folder: Path) -> Iterator[None]:
    """The lock, by a process that does not let it go before it ends."""
    if url:
        with psycopg.connect(url) as server:
            server.execute("SELECT pg_advisory_xact_lock(%s)", [updates.A_LOCK])
            yield
    else:
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
        os.close(held)
