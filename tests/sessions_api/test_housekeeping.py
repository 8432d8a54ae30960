"""Closing, erasing and purging during turns; traces of erased text; dead turns; the lease."""

import contextlib
import random
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import Error, connection, transaction
from django.utils import timezone

from sessions_api import sqlite
from sessions_api.models import Lease, Message, Outcome, Session, new_public_id
from sessions_api.retention import dead_turns, erasure, expiry, maintenance
from sessions_api.store.messages import BegunTurn, NewTurn, TurnProgress
from sessions_api.store.process import this_process
from sessions_api.store.turns import begin_turns, finish_turns, save_progress
from testing.client import Caller
from testing.environment import ROOT
from testing.service import Service
from tests.conftest import MakeService
from tests.support.records import add_turns, make_session
from web.pace import Pace

pytestmark = pytest.mark.django_db(transaction=True)
on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's file")

DAY = timedelta(days=1)


def begin(session_id: str, question: str = "Oi") -> BegunTurn:
    begun = begin_turns([NewTurn("open", session_id, new_public_id(), question)])[0]
    assert isinstance(begun, BegunTurn)
    return begun


def idle(length: timedelta = DAY) -> Any:
    return expiry.expired_sessions(length, None)


@contextlib.contextmanager
def in_a_thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Runs `work` in parallel to the block, with its own database connection; waits for it afterwards."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
        assert not thread.is_alive()


# Closing and erasing


def test_closing_counts_what_was_open_and_keeps_the_text() -> None:
    make_session("a")
    make_session("b", closed_at=timezone.now())
    assert erasure.close(Session.objects.all()) == 1
    assert Session.objects.filter(closed_at=None).count() == 0
    assert Message.objects.count() == 4


def test_closing_erases_at_once_where_nothing_is_to_be_retained(settings: Any) -> None:
    settings.SESSION_CLOSED_RETENTION_HOURS = 0
    make_session("a")
    assert erasure.close(Session.objects.all()) == 1
    assert (Session.objects.count(), Message.objects.count()) == (0, 0)


def test_erasing_takes_the_chosen_sessions_alone() -> None:
    make_session("a", turns=300)
    make_session("b", turns=2)
    make_session("c")
    assert erasure.erase(Session.objects.exclude(session_id="b")) == 2
    assert (Session.objects.get().session_id, Message.objects.count()) == ("b", 4)


def test_erasing_ends_what_a_running_turn_could_still_write() -> None:
    begun = begin("ocupada")
    assert erasure.erase(Session.objects.all()) == 1
    assert save_progress([TurnProgress(begun.session_pk, begun.position, "mais texto")]) == [False]
    assert finish_turns([Outcome(begun.session_pk, begun.position, "o texto todo", "completed")]) == [None]
    assert (Session.objects.count(), Message.objects.count()) == (0, 0)


def test_erasing_waits_for_a_turn_that_is_just_being_written() -> None:
    begun = begin("ocupada")
    removed: list[int] = []
    with contextlib.ExitStack() as stack, transaction.atomic():
        save_progress([TurnProgress(begun.session_pk, begun.position, "um pouco")])
        stack.enter_context(in_a_thread(lambda: removed.append(erasure.erase(Session.objects.all())))).join(0.3)
    assert removed == [1]
    assert Message.objects.count() == 0


# Purging while turns begin


def test_a_session_that_becomes_active_during_a_purge_stays_whole() -> None:
    make_session("volta", age=2 * DAY, turns=3)
    with contextlib.ExitStack() as stack, transaction.atomic():
        begin("volta", "Voltei")
        stack.enter_context(in_a_thread(lambda: erasure.purge(idle()))).join(0.3)
    assert Session.objects.get().message_count == 8
    assert Message.objects.filter(content="Voltei").exists()
    assert Message.objects.count() == 8


def test_a_turn_that_begins_during_the_purge_of_its_session_gets_a_new_one() -> None:
    old = make_session("volta", age=2 * DAY)

    def begin_again_if_need_be() -> None:  # like the writer
        for _attempt in range(3):
            with contextlib.suppress(Error), transaction.atomic():
                begin("volta", "Voltei")
                return

    with contextlib.ExitStack() as stack, transaction.atomic():
        assert erasure._remove_some(idle(), Pace()) == (1, 2)
        stack.enter_context(in_a_thread(begin_again_if_need_be)).join(0.3)
    new = Session.objects.get()
    assert new.pk != old.pk
    assert list(new.messages.values_list("content", flat=True)) == ["Voltei", ""]


def test_sessions_can_be_erased_while_their_turns_are_being_written() -> None:
    names = [f"s{number}" for number in range(12)]
    stop = threading.Event()
    problems: list[Exception] = []

    def talk(seed: int) -> None:
        order, failures = random.Random(seed), 0
        while not stop.is_set():
            try:
                with transaction.atomic():  # several turns at once, in any order, like the writer
                    begun = begin_turns([NewTurn("open", n, new_public_id(), "Oi") for n in order.sample(names, 4)])
                running = [turn for turn in begun if isinstance(turn, BegunTurn)]
                with transaction.atomic():
                    save_progress([TurnProgress(turn.session_pk, turn.position, "abc") for turn in running])
                for turn in running:
                    with transaction.atomic():
                        finish_turns([Outcome(turn.session_pk, turn.position, "abcd", "completed")])
                failures = 0
            except Error as problem:
                failures += 1  # SQLite may miss a table while the file is rewritten; the writer tries again
                if connection.vendor == "sqlite" and failures > 1:
                    problems.append(problem)
            time.sleep(0.002)

    with in_a_thread(lambda: talk(1)), in_a_thread(lambda: talk(2)), contextlib.ExitStack() as stack:
        stack.callback(stop.set)
        for _round in range(15):
            erasure.erase(Session.objects.all())
    assert problems == []
    assert not Message.objects.exclude(session__in=Session.objects.all()).exists()


# Traces


def raw_bytes() -> bytes:
    database = Path(connection.settings_dict["NAME"])
    files = [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
    return b"".join(file.read_bytes() for file in files if file.exists())


@contextlib.contextmanager
def another_connection() -> Iterator[sqlite3.Connection]:
    """A connection that has read and stays open, so that closing others does not empty the write-ahead log."""
    with contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
        other.execute("SELECT count(*) FROM sessions_api_message").fetchall()
        yield other


def grow_conversations(marks: list[str], turns: int, seed: int) -> None:
    """Many conversations whose replies grow bit by bit, so that SQLite moves rows from page to page."""
    order = random.Random(seed)
    for _turn in range(turns):
        mark = order.choice(marks)
        with transaction.atomic():
            begun = begin(mark, mark + "?" * order.randrange(300))
            text = ""
            for _beat in range(order.randrange(1, 6)):
                text += mark * order.randrange(5, 50)
                save_progress([TurnProgress(begun.session_pk, begun.position, text)])
            finish_turns([Outcome(begun.session_pk, begun.position, text, "completed")])


@on_sqlite
@pytest.mark.parametrize("seed", [3, 6, 7])  # with these, a plain deletion leaves copies
def test_nothing_of_an_erased_text_is_left_in_the_files(seed: int) -> None:
    marks = [f"CANARY{number:03d}" for number in range(60)]
    grow_conversations(marks, 600, seed)
    with another_connection():
        erasure.purge(Session.objects.filter(session_id__in=marks[:20]))  # this moves the remaining rows
        erasure.erase(Session.objects.filter(session_id__in=marks[20:40]))
        found = raw_bytes()
    assert [mark for mark in marks[:40] if mark.encode() in found] == []
    assert all(mark.encode() in found for mark in marks[40:])


@on_sqlite
def test_nothing_of_a_purged_text_is_left_in_the_files() -> None:
    canary = "CANARY" + secrets.token_hex(8)
    session = make_session(age=2 * DAY, title=canary, system_prompt=canary, metadata={"k": canary}, turns=0)
    add_turns(session, 900, canary + " {}", canary * 3)
    with another_connection():
        assert canary.encode() in raw_bytes()
        assert erasure.purge(idle()) == (1, 1800)
        assert canary.encode() not in raw_bytes()


@on_sqlite
def test_a_reader_in_an_old_snapshot_delays_the_wiping_but_not_the_turns() -> None:
    canary = "CANARY" + secrets.token_hex(8)
    add_turns(make_session("a", turns=0), 5, canary)
    with another_connection() as other:
        other.execute("BEGIN")
        other.execute("SELECT content FROM sessions_api_message").fetchone()
        with in_a_thread(lambda: erasure.erase(Session.objects.filter(session_id="a"))):
            for number in range(20):
                begin(f"b{number}")
            other.rollback()
    assert canary.encode() not in raw_bytes()


@on_sqlite
def test_between_two_rewrites_of_the_file_others_have_as_long_to_write() -> None:
    sqlite.wipe()
    took = sqlite._next_at - time.monotonic()
    earliest = sqlite._next_at
    sqlite.wipe()
    assert took > 0
    assert sqlite._last_began_at >= earliest


def test_a_client_can_have_a_session_erased_without_a_trace(service: Service) -> None:
    canary = "CANARY" + secrets.token_hex(8)
    caller = Caller(service)
    caller.chat(canary, session_id="segredo")
    caller.chat("Outra conversa", session_id="outra")
    assert caller.call("DELETE", "/sessions/segredo?erase=true").status_code == 200
    assert service.sql("SELECT count(*) FROM sessions_api_message WHERE content LIKE %s", f"%{canary}%") == [(0,)]
    if connection.vendor == "sqlite":
        files = service.directory.glob(service.database_file.name + "*")
        assert all(canary.encode() not in file.read_bytes() for file in files)


# Dead turns


@contextlib.contextmanager
def another_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process like those that run turns, and its name."""
    program = "from sessions_api.store.process import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def run_by(name: str, text: str = "Até aqui") -> Message:
    begun = begin(new_public_id())
    save_progress([TurnProgress(begun.session_pk, begun.position, text)])
    Message.objects.filter(session=begun.session_pk, status="pending").update(runner=name)
    return Message.objects.get(session=begun.session_pk, position=begun.position)


def test_the_turns_of_a_process_that_is_gone_end_at_once_with_their_text() -> None:
    with another_process() as (name, process):
        reply = run_by(name)
        assert dead_turns.interrupt_dead_turns() == 0
        process.kill()
        process.wait()
        assert dead_turns.interrupt_dead_turns() == 1
    reply.refresh_from_db()
    assert (reply.status, reply.content, reply.error_code) == ("interrupted", "Até aqui", "turn_interrupted")
    assert reply.may_have_been_billed
    assert reply.completed_at is not None
    assert reply.session.message_count == 2


def test_a_process_that_got_the_pid_of_another_is_not_taken_for_it() -> None:
    namespace, pid, started = this_process().rsplit(":", 2)
    run_by(f"{namespace}:{pid}:{int(started) - 1}")
    assert dead_turns.interrupt_dead_turns() == 1


@pytest.mark.parametrize("name", [this_process(), "another-machine/4026531836:17:4711", ""], ids=["own", "far", "none"])
def test_living_turns_are_left_alone(name: str) -> None:
    reply = run_by(name)
    assert dead_turns.interrupt_dead_turns() == 0
    reply.refresh_from_db()
    assert reply.status == "pending"


def test_a_turn_without_a_heartbeat_ends_wherever_it_ran(settings: Any) -> None:
    silent, beating = run_by("another-machine/1:17:4711"), run_by("another-machine/1:17:4711")
    late = timezone.now() - timedelta(seconds=settings.TURN_LEASE_SECONDS + 1)
    Message.objects.filter(session=silent.session_id, status="pending").update(heartbeat_at=late)
    assert dead_turns.interrupt_dead_turns() == 1
    assert Message.objects.get(status="pending").session_id == beating.session_id


def test_an_interrupted_turn_cannot_be_finished_any_more_and_frees_its_session() -> None:
    reply = run_by("another-machine/1:17:4711")
    later = timezone.now() + timedelta(seconds=1)
    assert dead_turns.interrupt_dead_turns(cutoff=later) == 1
    assert finish_turns([Outcome(reply.session_id, reply.position, "tarde demais", "completed")]) == ["interrupted"]
    assert begin(reply.session.session_id).position == reply.position + 2


def test_only_turns_that_are_dead_are_ended_by_name(settings: Any) -> None:
    dead, living = run_by("elsewhere:1:1"), run_by("elsewhere:1:1")
    late = timezone.now() - timedelta(seconds=settings.TURN_LEASE_SECONDS + 1)
    Message.objects.filter(session=dead.session_id, status="pending").update(heartbeat_at=late)
    assert dead_turns.interrupt_turns([dead.turn_id, living.turn_id, "nobody's"]) == [1, 0, 0]


# The lease


def test_a_lease_has_one_holder_who_renews_it() -> None:
    assert maintenance.take_lease("maintenance", 60)
    assert maintenance.take_lease("maintenance", 60)
    assert Lease.objects.get().holder == this_process()


def test_a_lease_of_another_is_respected_until_it_expires() -> None:
    Lease.objects.create(name="maintenance", holder="another", expires_at=timezone.now() + timedelta(seconds=60))
    assert not maintenance.take_lease("maintenance", 60)
    Lease.objects.update(expires_at=timezone.now())
    assert maintenance.take_lease("maintenance", 60)
    assert Lease.objects.get().holder == this_process()


def test_of_several_who_want_a_lease_at_once_one_gets_it(service: Service) -> None:
    program = "from sessions_api.retention.maintenance import take_lease; print(take_lease('test', 60))"
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(service.manage, "shell", "--no-imports", "-c", program) for _ in range(3)]
    assert sorted(run.result().stdout.strip() for run in runs) == ["False", "False", "True"]


# In the running service


def test_the_service_purges_and_wipes_by_itself(make_service: MakeService) -> None:
    service = make_service()
    canary = "CANARY" + secrets.token_hex(8)
    caller = Caller(service)
    caller.chat(canary, session_id="fechada")
    caller.chat("Fica", session_id="aberta")
    service.sql(
        "UPDATE sessions_api_session SET closed_at = %s WHERE session_id = 'fechada'", "2020-01-01 00:00:00+00:00"
    )
    service.restart()  # the first purge runs soon after the start
    eventually(lambda: service.sql("SELECT session_id FROM sessions_api_session") == [("aberta",)])
    if connection.vendor == "sqlite":
        files = [service.database_file.with_name(service.database_file.name + suffix) for suffix in ("", "-wal")]
        eventually(lambda: all(canary.encode() not in file.read_bytes() for file in files))


def eventually(holds: Callable[[], bool]) -> None:
    for _attempt in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within half a minute")
