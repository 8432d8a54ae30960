"""Which databases the service starts on, which processes update them, and what it does when one can't be written to."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import Error, connection

from bancobot_project import health
from bancobot_project.database import requirements, updates
from bancobot_project.database.direct import direct
from bancobot_project.database.poolers import beware_of_poolers, is_pooler
from sessions_api.store.writer import writer
from testing import forked, postgres
from testing.client import Caller, problem, wait_until
from testing.environment import clean_environment
from testing.service import Service
from tests.conftest import MakeService
from tests.support.services import Services

pytestmark = pytest.mark.database  # also those that ask it by themselves


def on_postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a server has these troubles, a file has not")


def only_sqlite() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("a file has these troubles, a server has not")


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


ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"


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


# What happens while it runs


@pytest.mark.django_db(transaction=True)
def test_many_health_checks_cost_one_write_a_second() -> None:
    writes: list[int] = []

    def look(checks: Sequence[None]) -> list[bool]:
        writes.append(len(checks))
        return [True] * len(checks)

    async def ask(pulse: health.Pulse) -> list[bool]:
        at_once = await asyncio.gather(*(pulse.works() for _ in range(50)))
        return [*at_once, *[await pulse.works() for _ in range(50)]]

    assert asyncio.run(ask(health.Pulse(look))) == [True] * 100
    assert writes == [1]
    asyncio.run(let_go())


async def let_go() -> None:
    """The writer's connection, which would keep the database from being removed."""

    def close(arguments: Sequence[None]) -> list[None]:
        connection.close()
        return [None for _ in arguments]

    with contextlib.suppress(Error):
        await writer.run(close, None)


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_is_held_for_long_is_no_health(monkeypatch: pytest.MonkeyPatch) -> None:
    only_sqlite()
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)

    async def ask() -> list[bool]:
        pulse = health.Pulse(health.write_a_row)
        with contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked = [await pulse.works(), await pulse.works()]
        monkeypatch.setattr(health, "PATIENCE_SECONDS", 20)
        return [*locked, await pulse.works()]

    assert asyncio.run(ask()) == [False, False, True]


def healthy(service: Service, status: int = 200) -> bool:
    return Caller(service, key="").get("/health").status_code == status


def test_a_file_that_was_replaced_stores_nothing_more(make_service: MakeService) -> None:
    only_sqlite()
    service = make_service()
    caller, file = Caller(service), service.database_file
    caller.chat("Oi", session_id="s")
    moved = file.rename(file.with_suffix(".moved"))
    problem(caller.post("/chat", message="Para onde?", session_id="s"), 503, "database_unavailable")
    wait_until(lambda: healthy(service, 503))
    assert "the database file was deleted or replaced" in service.log()
    moved.rename(file)
    caller.chat("De volta", session_id="s")
    wait_until(lambda: healthy(service))
    file.with_name(f"{file.name}-wal").unlink()
    caller.chat("E agora?", session_id="s")
    assert caller.texts("s")[::2] == ["Oi", "De volta", "E agora?"]


@pytest.fixture(scope="module")
def on_a_server(services: Services) -> Iterator[Service]:
    """One whose database the tests change, and change back."""
    on_postgresql()
    with services.own(DATABASE_POOL_SIZE="3") as service:
        yield service


def test_a_server_that_became_read_only_is_left_for_the_one_that_can_be_written_to(on_a_server: Service) -> None:
    """As after a failover: the old primary answers, and refuses to write. Only new connections find the new one."""
    caller, name = Caller(on_a_server), urlsplit(on_a_server.database_url).path[1:]
    session = caller.chat("Oi")["session_id"]
    administer(on_a_server, f"ALTER DATABASE {name} SET default_transaction_read_only = on", END_ALL.format(name))
    wait_until(lambda: healthy(on_a_server, 503))
    problem(caller.post("/chat", message="Agora?", session_id=session), 503, "database_unavailable")
    administer(on_a_server, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    wait_until(lambda: caller.post("/chat", message="E agora?", session_id=session).status_code == 200, 5)
    wait_until(lambda: healthy(on_a_server), 5)
    assert caller.call("PATCH", f"/sessions/{session}", json={"title": "Novo"}).status_code == 200


def test_health_needs_the_rights_that_messages_need(on_a_server: Service) -> None:
    role, name = f"bot_{secrets.token_hex(4)}", urlsplit(on_a_server.database_url).path[1:]
    on_a_server.sql(f"CREATE ROLE {role}")
    on_a_server.sql(f"GRANT {ALL_RIGHTS} TO {role}")
    try:
        administer(on_a_server, f"ALTER DATABASE {name} SET role = {role}", END_ALL.format(name))
        on_a_server.sql(f"SET ROLE NONE; REVOKE INSERT ON sessions_api_message FROM {role}")
        wait_until(lambda: healthy(on_a_server, 503))
        on_a_server.sql(f"SET ROLE NONE; GRANT INSERT ON sessions_api_message TO {role}")
        wait_until(lambda: healthy(on_a_server))
        Caller(on_a_server).chat("Oi")
    finally:
        administer(on_a_server, f"ALTER DATABASE {name} RESET role", END_ALL.format(name))
        on_a_server.sql(f"DROP OWNED BY {role}")
        on_a_server.sql(f"DROP ROLE {role}")


END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


def administer(service: Service, *statements: str) -> None:
    elsewhere = urlunsplit(urlsplit(service.database_url)._replace(path="/postgres"))
    with psycopg.connect(elsewhere, autocommit=True) as server:
        for statement in statements:
            server.execute(statement.encode())
