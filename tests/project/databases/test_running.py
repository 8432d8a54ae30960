"""What a running service does when its database can't be written to: health, failovers, lost files."""

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.db import Error, connection

from bancobot_project import health
from sessions_api.store.writer import writer
from testing.client import Caller, problem, wait_until
from testing.service import Service
from tests.conftest import MakeService
from tests.project.databases.kinds import ALL_RIGHTS, on_postgresql, only_sqlite
from tests.support.services import Services

pytestmark = pytest.mark.database  # also those that ask it by themselves


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
