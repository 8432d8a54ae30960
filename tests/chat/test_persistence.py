"""The record survives restarts, crashes, and a database that is away for a while."""

import os
import resource
import secrets
import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from django.db import connection, transaction

from chat.engine.upkeep import LONG_CHARS, MAX_LONG_CHARS, Saved, _due
from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.environment import free_port
from testing.service import Service, manage
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.services import Services

PENDING = "SELECT count(*) FROM sessions_api_message WHERE status = 'pending'"
SQLITE_ONLY = pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own")


def workers(service: Service) -> list[int]:
    """The pids of the processes that serve."""
    assert service.process is not None
    pid = service.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stored_text(service: Service, session: str) -> str:
    query = (
        "SELECT m.content FROM sessions_api_message m JOIN sessions_api_session s ON s.id = m.session_id "
        "WHERE s.session_id = %s AND m.position = 1"
    )
    rows = service.sql(query, session)
    return str(rows[0][0]) if rows else ""


@contextmanager
def turn_in_the_middle(caller: Caller, upstream: Upstream) -> Iterator[tuple[str, "Future[Any]", threading.Event]]:
    """A running turn with "O começo " stored: its session, the client's answer, and the gate to the rest."""
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", message="Oi", session_id=session)
        try:
            wait_until(lambda: stored_text(caller.service, session) == "O começo ")
            yield session, asking, gate
        finally:
            gate.set()


# Restarts and crashes


def test_a_conversation_survives_a_restart(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service()
    caller = Caller(service)
    caller.chat("Um", session_id="s", system_prompt="Seja breve.", model="scripted/small")
    before = caller.session("s")
    assert service.terminate() == 0
    service.start()
    assert caller.session("s") == before
    caller.chat("Dois", session_id="s")
    sent = upstream.requests[-1]
    assert [message["content"] for message in sent.messages] == ["Seja breve.", "Um", "Eco (2): Um", "Dois"]
    assert sent.body["model"] == "scripted/small"


def test_a_crash_in_mid_turn_keeps_the_text_that_had_arrived(make_service: MakeService, upstream: Upstream) -> None:
    """The lease need not expire: that turn's runner is known to be gone."""
    service = make_service(TURN_LEASE_SECONDS="3600")
    caller = Caller(service)
    with turn_in_the_middle(caller, upstream) as (session, asking, _gate):
        service.kill()
        with pytest.raises(httpx.HTTPError):
            asking.result()
    service.start()
    wait_until(lambda: service.sql(PENDING) == [(0,)], 10)
    question, reply = caller.messages(session)
    assert (question["content"], question["status"]) == ("Oi", "completed")
    assert (reply["content"], reply["status"]) == ("O começo ", "interrupted")
    assert reply["error"].items() >= {"code": "turn_interrupted", "may_have_been_billed": True}.items()
    shown = good(caller.get(f"/turns/{reply['turn_id']}"))
    assert (shown["status"], shown["text"], shown["answer"]) == ("interrupted", "O começo ", None)
    assert upstream.count == 1
    caller.chat("E depois?", session_id=session)
    assert [message["content"] for message in upstream.requests[-1].messages] == ["Oi", "O começo ", "E depois?"]
    assert upstream.count == 2


def test_what_was_answered_survives_a_crash(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(workers=2)
    caller, answered, crashed = Caller(service), [], threading.Event()

    def talk(number: int) -> None:
        session = f"s{number}"
        for turn in range(1000):
            try:
                response = caller.post("/chat", message=f"{number}.{turn}", session_id=session)
            except httpx.HTTPError:
                assert crashed.is_set()
                return
            answered.append((session, f"{number}.{turn}", good(response)["response"]))

    with ThreadPoolExecutor(4) as pool:
        talking = [pool.submit(talk, number) for number in range(4)]
        wait_until(lambda: len(answered) > 60)
        crashed.set()
        service.kill()
        for future in talking:
            future.result()
    service.start()
    wait_until(lambda: service.sql(PENDING) == [(0,)], 10)
    for session in {session for session, _, _ in answered}:
        expected = [text for name, *texts in answered if name == session for text in texts]
        page, stored = good(caller.get(f"/sessions/{session}/messages")), []
        while page:
            stored += [message["content"] for message in page["data"]]
            page = good(caller.get(page["next"])) if page["next"] else {}
        assert stored[: len(expected)] == expected
        assert len(stored) <= len(expected) + 2
    if connection.vendor == "sqlite":
        assert service.sql("PRAGMA integrity_check") == [("ok",)]


def test_one_of_two_workers_may_die(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(workers=2)
    caller = Caller(service)
    with turn_in_the_middle(caller, upstream) as (session, asking, _gate):
        runner = service.sql("SELECT runner FROM sessions_api_message WHERE status = 'pending'")[0][0]
        pid = int(runner.split(":")[1])
        assert pid in workers(service)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            asking.result()
    wait_until(lambda: service.sql(PENDING) == [(0,)])
    reply = caller.messages(session)[1]
    assert (reply["status"], reply["content"]) == ("interrupted", "O começo ")
    assert caller.chat("E depois?", session_id=session)["response"] == "Eco (3): E depois?"
    wait_until(lambda: len(workers(service)) == 2)
    assert pid not in workers(service)


# A database that is away


@contextmanager
def database_down(service: Service) -> Iterator[None]:
    """SQLite: a full disk, simulated by a limit on file writes. PostgreSQL: nobody can connect."""
    turn_away(service, True)
    try:
        yield
    finally:
        turn_away(service, False)


def turn_away(service: Service, away: bool) -> None:
    if connection.vendor == "sqlite":
        for pid in workers(service):
            limit = 0 if away else resource.RLIM_INFINITY
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    else:
        administer(service, f"ALTER DATABASE {{}} ALLOW_CONNECTIONS {not away}")
        if away:
            end_connections(service)


def administer(service: Service, statement: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(statement.format(urlsplit(service.database_url).path.lstrip("/")).encode())


def end_connections(service: Service) -> None:
    """Waits for the end of each connection, and for new ones."""
    name = urlsplit(service.database_url).path.lstrip("/")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = %s"
        while server.execute(end, (name,)).fetchall():
            pass


@pytest.fixture(scope="module")
def own_service(services: Services) -> Iterator[Service]:
    """A service whose database these tests take away and bring back."""
    with services.own() as service:
        yield service


def test_a_database_that_is_down_is_503_until_it_is_back(own_service: Service, upstream: Upstream) -> None:
    service = own_service
    caller = Caller(service)
    turn = caller.chat("Antes", session_id="s")["turn_id"]
    pids, count = workers(service), upstream.count
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/chat", {"message": "Durante", "session_id": "s"}),
        ("POST", "/chat", {"message": "Durante", "stream": True}),
        ("POST", "/api/message", {"message": "Durante"}),
        ("PATCH", "/sessions/s", {"title": "Durante"}),
        ("GET", "/sessions/s", {}),
        ("GET", "/api/sessions", {}),
        ("GET", f"/turns/{turn}", {}),
        ("DELETE", "/sessions/s", {}),
    ]
    with database_down(service), ThreadPoolExecutor(len(requests)) as pool:
        asking = [pool.submit(caller.call, method, path, json=body) for method, path, body in requests]
        answers = [future.result() for future in asking]
        health = caller.get("/health")
    # SQLite: with a full disk, threads with the file open can still read, but nobody can write.
    read = [answer for answer in answers if answer.request.method == "GET" and answer.status_code == 200]
    assert connection.vendor == "sqlite" or (read, health.status_code) == ([], 503)
    for answer in answers:
        if answer not in read:
            assert problem(answer, 503, "database_unavailable")["retry_after"] >= 1
            assert int(answer.headers["retry-after"]) >= 1
    if health.status_code != 200:
        assert health.status_code == 503
        assert health.json().items() >= {"status": "unavailable", "checks": {"database": "unavailable"}}.items()
    assert upstream.count == count
    assert good(caller.get("/health"))["status"] == "ok"
    assert caller.chat("Depois", session_id="s")["response"] == "Eco (3): Depois"
    assert caller.texts("s") == ["Antes", "Eco (1): Antes", "Depois", "Eco (3): Depois"]
    assert workers(service) == pids


def test_a_reply_waits_for_a_database_that_comes_back(own_service: Service, upstream: Upstream) -> None:
    service = own_service
    caller = Caller(service)
    with turn_in_the_middle(caller, upstream) as (session, asking, gate):
        with database_down(service):
            gate.set()
            problem(caller.post("/chat", message="Durante"), 503, "database_unavailable")
            assert not asking.done(), asking.result().text
        assert good(asking.result(timeout=60))["response"] == "O começo e o fim"
    assert caller.texts(session) == ["Oi", "O começo e o fim"]
    assert upstream.count == 1


def test_who_listens_from_another_process_waits_for_the_database_too(
    own_service: Service, upstream: Upstream, tmp_path: Path
) -> None:
    caller = Caller(own_service)
    other = Service(tmp_path, settings=own_service.settings).start()
    elsewhere = Caller(other, key=caller.key)
    try:
        with turn_in_the_middle(caller, upstream) as (session, asking, gate), elsewhere.connection() as client:
            turn = caller.messages(session)[0]["id"].rpartition(".")[0]
            with client.stream("GET", f"/turns/{turn}/events") as response:
                lines = response.iter_lines()
                assert next(lines) == "event: start"
                with database_down(own_service), database_down(other):
                    gate.set()
                    problem(elsewhere.post("/chat", message="Durante"), 503, "database_unavailable")
                assert "event: done" in set(lines)
            assert good(asking.result(timeout=60))["response"] == "O começo e o fim"
    finally:
        other.kill()


def test_connections_that_the_database_ended_are_made_anew(own_service: Service, upstream: Upstream) -> None:
    service = own_service
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no connections to end")
    caller = Caller(service)
    caller.chat("Antes", session_id="s")
    caller.session("s")
    end_connections(service)
    assert caller.chat("Depois", session_id="s")["response"] == "Eco (3): Depois"
    assert caller.session("s")["message_count"] == 4
    end_connections(service)
    assert caller.session("s")["message_count"] == 4
    end_connections(service)
    assert caller.get("/health").status_code == 200


def test_connections_do_not_grow_with_the_turns_in_flight(own_service: Service, upstream: Upstream) -> None:
    service = own_service
    caller, gate = Caller(service), threading.Event()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Enfim"))
    before = count_connections(service)
    with ThreadPoolExecutor(60) as pool:
        asking = [pool.submit(caller.chat, "Oi") for _ in range(60)]
        wait_until(lambda: upstream.count == 60)
        connections = count_connections(service)
        gate.set()
        assert {future.result()["response"] for future in asking} == {"Enfim"}
    assert 1 <= connections <= max(before, 10)


def count_connections(service: Service) -> int:
    """On SQLite the most that were ever open at once: it keeps files open for later connections."""
    if connection.vendor == "sqlite":
        descriptors = [link for pid in workers(service) for link in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(link.exists() and link.samefile(service.database_file) for link in descriptors)
    name = urlsplit(service.database_url).path.lstrip("/")
    with psycopg.connect(os.environ["DATABASE_URL"]) as server:
        row = server.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_start_without_a_database_says_so(database_url: str, tmp_path: Path) -> None:
    missing = "sqlite:////proc/nowhere/bancobot.sqlite3" if connection.vendor == "sqlite" else f"{database_url}_2"
    settings = {"DATABASE_URL": missing, "DATA_DIR": str(tmp_path), "SECRET_KEY": secrets.token_urlsafe(50)}
    result = manage(settings, "serve", "--port", str(free_port()))
    assert result.returncode != 0
    assert "database" in result.stderr.lower()
    assert "Traceback" not in result.stderr


# SQLite's settings


@SQLITE_ONLY
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "name, value", [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1)]
)
def test_sqlite_has_the_pragma_that_keeps_what_was_answered(name: str, value: Any) -> None:
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        assert cursor.fetchone() == (value,)


@SQLITE_ONLY
def test_the_service_s_own_file_is_in_wal_mode(service: Service) -> None:
    Caller(service).chat("Oi")
    assert service.sql("PRAGMA journal_mode") == [("wal",)]


@SQLITE_ONLY
@pytest.mark.django_db(transaction=True)
def test_a_transaction_has_the_write_lock_from_its_beginning() -> None:
    """A lock upgrade in the middle of a transaction ignores the busy time-out."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0, isolation_level=None)) as other:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


@SQLITE_ONLY
@pytest.mark.django_db(transaction=True)
def test_a_transaction_waits_for_a_writer_instead_of_failing() -> None:
    with closing(
        sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM sessions_api_session")
            cursor.execute("UPDATE sessions_api_session SET title = ''")


# What is stored of running turns


def running(name: str, length: int) -> Any:
    return SimpleNamespace(turn_id=name, begun=object(), ended=False, began_at=0.0, text="x" * length)


def stored(turns: list[Any], saved: dict[str, Saved], now: float) -> dict[str, bool]:
    """Which of the turns are stored, and whether with their text."""
    return {one.turn_id: text is not None for one, text in _due(turns, saved, now)}


def test_short_texts_are_stored_once_a_second_while_they_grow() -> None:
    saved: dict[str, Saved] = {}
    one = running("a", 10)
    assert stored([one], saved, 0.5) == {}
    assert stored([one], saved, 1.0) == {"a": True}
    assert stored([one], saved, 2.5) == {}
    one.text += "y"
    assert stored([one], saved, 3.0) == {"a": True}


def test_long_texts_are_stored_less_often_and_their_turns_stay_alive() -> None:
    saved: dict[str, Saved] = {}
    one = running("a", 500_000)
    assert stored([one], saved, 1.0) == {}
    assert stored([one], saved, 4.0) == {"a": False}
    assert stored([one], saved, 10.0) == {"a": True}


def test_of_many_long_texts_few_are_stored_in_a_round_and_each_in_its_turn() -> None:
    saved: dict[str, Saved] = {}
    turns = [running(str(number), 2 * LONG_CHARS) for number in range(100)] + [running("short", 10)]
    seen: set[str] = set()
    for beat in range(25):
        now = stored(turns, saved, 1.0 + beat / 2)
        with_text = {name for name, text in now.items() if text}
        assert len(with_text - {"short"}) * 2 * LONG_CHARS <= MAX_LONG_CHARS
        seen |= with_text
    assert seen == {one.turn_id for one in turns}
