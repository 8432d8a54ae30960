"""sessions_api/store.py and writer.py: sets of operations that may be run again, and who gets which result."""

import asyncio
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from sessions_api.housekeeping import close, drop_expired_keys, interrupt_dead_turns, interrupt_turns
from sessions_api.models import IdempotencyKey, Message, Session, new_public_id
from sessions_api.reading import find_replies
from sessions_api.runner import is_gone, outages, this_process
from sessions_api.store import (
    NotAllAtOnce,
    abandon_turns,
    begin_turns,
    cancel_turns,
    find_keys,
    finish_turns,
    save_progress,
)
from sessions_api.turns import BegunTurn, Busy, KnownKey, NewTurn, Outcome, Progress
from sessions_api.writer import MOST_JOBS, Writer

pytestmark = pytest.mark.django_db(transaction=True)


def question(session_id: str = "s", text: str = "Oi", **more: Any) -> NewTurn:
    return NewTurn(
        owner=more.pop("owner", "open"), session_id=session_id, turn_id=new_public_id(), question=text, **more
    )


def begin(turn: NewTurn) -> BegunTurn:
    [begun] = begin_turns([turn])
    assert isinstance(begun, BegunTurn)
    return begun


def outcome(begun: BegunTurn, text: str = "Olá", **more: Any) -> Outcome:
    return Outcome(
        **{"session_pk": begun.session_pk, "position": begun.position, "content": text, "status": "completed", **more}
    )


def say(session_id: str, text: str, reply: str, **more: Any) -> BegunTurn:
    begun = begin(question(session_id, text, **more))
    assert finish_turns([outcome(begun, reply)]) == ["completed"]
    return begun


def rows(session_id: str = "s") -> list[tuple[Any, ...]]:
    messages = Message.objects.filter(session__session_id=session_id).order_by("position")
    return list(messages.values_list("position", "role", "content", "status"))


# Beginning a turn


def test_a_question_and_its_pending_reply_are_stored_together() -> None:
    begun = begin(question(text="Quanto custa?", metadata={"ção": [1]}))
    assert rows() == [(0, "user", "Quanto custa?", "completed"), (1, "assistant", "", "pending")]
    assert (begun.position, begun.history, begun.unread) == (1, [], 0)
    asked, reply = Message.objects.order_by("position")
    assert asked.metadata == {"ção": [1]}
    assert asked.turn_id == reply.turn_id
    assert reply.runner == this_process()
    assert Session.objects.get().message_count == 2


def test_the_history_is_what_came_before() -> None:
    say("s", "Um", "Eins")
    say("s", "Dois", "Zwei")
    begun = begin(question(text="Três"))
    assert [(past.role, past.content) for past in begun.history] == [
        ("user", "Um"), ("assistant", "Eins"), ("user", "Dois"), ("assistant", "Zwei"),
    ]  # fmt: skip
    assert begun.position == 5


def test_what_was_superseded_is_no_history() -> None:
    first = say("s", "Um", "Eins")
    Message.objects.filter(session=first.session_pk).update(superseded_at=timezone.now())
    assert begin(question(text="Dois")).history == []


def test_a_long_history_is_read_from_its_end() -> None:
    for number in range(5):
        say("s", f"Pergunta {number}", f"Resposta {number}")
    begun = begin(question(history_limit=4))
    assert [past.content for past in begun.history] == ["Pergunta 3", "Resposta 3", "Pergunta 4", "Resposta 4"]
    assert begun.unread == 6


def test_a_busy_session_names_the_turn_that_runs() -> None:
    running = question()
    begin(running)
    [busy] = begin_turns([question()])
    assert isinstance(busy, Busy)
    assert busy.turn_id == running.turn_id
    assert timezone.now() - busy.heartbeat_at < timedelta(minutes=1)
    assert len(rows()) == 2


@pytest.mark.parametrize("known", [False, True])
def test_of_two_questions_in_a_set_the_first_is_taken(known: bool) -> None:
    if known:
        say("s", "Antes", "Sim")
    first, second, other = question(), question(), question("outra")
    begun, busy, elsewhere = begin_turns([first, second, other])
    assert isinstance(begun, BegunTurn)
    assert isinstance(elsewhere, BegunTurn)
    assert isinstance(busy, Busy)
    assert busy.turn_id == first.turn_id


def test_a_set_mixes_new_and_known_sessions_of_several_owners() -> None:
    say("velha", "Um", "Eins")
    say("velha", "Um", "Eins", owner="outro")
    turns = [
        question("velha", "a"), question("nova", "b"), question("outra", "c"), question("nova", "d", owner="outro"),
        question("velha", "e", owner="outro"),
    ]  # fmt: skip
    answers = [begun for begun in begin_turns(turns) if isinstance(begun, BegunTurn)]
    assert len({begun.session_pk for begun in answers}) == 5
    assert [len(begun.history) for begun in answers] == [2, 0, 0, 0, 2]
    for turn, begun in zip(turns, answers, strict=True):
        asked = Message.objects.get(session=begun.session_pk, position=begun.position - 1)
        assert (asked.content, asked.turn_id, asked.session.owner) == (turn.question, turn.turn_id, turn.owner)


@pytest.mark.parametrize("session_id", ["s", "nova"])
def test_a_beginning_that_is_run_again_recognises_its_own_work(session_id: str) -> None:
    """The answer to a commit may get lost on the way: then the writer asks again."""
    say("s", "Antes", "Sim")
    turn = question(session_id)
    first = begin(turn)
    again = begin(turn)
    assert replace(again, history=[]) == replace(first, history=[])
    assert [past.content for past in again.history] == [past.content for past in first.history]
    assert Message.objects.filter(turn_id=turn.turn_id).count() == 2
    assert Session.objects.get(pk=first.session_pk).message_count == first.position + 1


def test_a_closed_session_s_id_begins_a_new_one() -> None:
    old = say("s", "Um", "Eins")
    close(Session.objects.filter(pk=old.session_pk))
    begun = begin(question())
    assert begun.session_pk != old.session_pk
    assert begun.history == []


def test_the_database_itself_allows_one_running_turn_a_session() -> None:
    begun = begin(question())
    values: dict[str, Any] = {"role": "assistant", "status": "pending", "turn_id": "x", "created_at": timezone.now()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.create(session_id=begun.session_pk, position=9, **values)


def test_the_database_itself_allows_one_open_session_an_id_and_owner() -> None:
    begin(question())
    now = timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        Session.objects.create(owner="open", session_id="s", created_at=now, last_activity_at=now)
    Session.objects.create(owner="open", session_id="s", created_at=now, last_activity_at=now, closed_at=now)


# Progress and outcome


def test_progress_is_kept_while_the_turn_runs_and_not_after() -> None:
    begun = begin(question())
    assert save_progress([Progress(begun.session_pk, 1, "Olá, tu")]) == [True]
    assert rows()[1] == (1, "assistant", "Olá, tu", "pending")
    finish_turns([outcome(begun, "Olá, tudo bem?")])
    assert save_progress([Progress(begun.session_pk, 1, "Olá")]) == [False]
    assert rows()[1][2] == "Olá, tudo bem?"


def test_of_a_set_only_the_ended_turns_are_told_so() -> None:
    running, ended = begin(question("a")), begin(question("b"))
    finish_turns([outcome(ended)])
    progress = [Progress(ended.session_pk, 1, "x"), Progress(running.session_pk, 1, "y"), Progress(10**9, 1, "z")]
    assert save_progress(progress) == [False, True, False]
    assert rows("a")[1][2] == "y"


def test_an_outcome_is_recorded_and_totalled() -> None:
    begun = begin(question())
    recorded = outcome(
        begun, "Olá", model="m", provider="p", generation_id="g", finish_reason="length", prompt_tokens=7,
        completion_tokens=3, cached_tokens=2, reasoning_tokens=1, usage_estimated=True, cost=Decimal("0.000000000007"),
        first_token_ms=5, latency_ms=9, history_omitted=4,
    )  # fmt: skip
    assert finish_turns([recorded]) == ["completed"]
    reply = Message.objects.get(position=1)
    for name in Outcome.__slots__:
        if name not in ("session_pk", "charge"):
            assert getattr(reply, name) == getattr(recorded, name), name
    assert reply.heartbeat_at is None
    assert reply.completed_at is not None
    session = Session.objects.get()
    assert (session.prompt_tokens, session.completion_tokens, session.cost) == (7, 3, Decimal("0.000000000007"))


def test_an_outcome_that_is_recorded_again_counts_once() -> None:
    recorded = outcome(begin(question()), prompt_tokens=7, completion_tokens=3, cost=Decimal("0.5"))
    assert finish_turns([recorded]) == ["completed"]
    assert finish_turns([recorded]) == ["completed"]
    session = Session.objects.get()
    assert (session.prompt_tokens, session.cost) == (7, Decimal("0.5"))


def test_two_outcomes_of_one_session_in_a_set_are_both_totalled() -> None:
    begun = say("s", "Um", "Eins")
    Message.objects.filter(session=begun.session_pk).update(status="completed")
    second = begin(question())
    third = begin(question("outra"))
    finish_turns([outcome(second, prompt_tokens=1), outcome(third, prompt_tokens=2)])
    assert sorted(Session.objects.values_list("prompt_tokens", flat=True)) == [1, 2]


def test_an_outcome_does_not_bring_back_what_somebody_else_ended() -> None:
    begun = begin(question())
    Message.objects.filter(position=1).update(status="cancelled", content="Até aqui")
    assert finish_turns([outcome(begun, "Tudo")]) == ["cancelled"]
    assert rows()[1] == (1, "assistant", "Até aqui", "cancelled")
    assert Session.objects.get().completion_tokens == 0


def test_an_outcome_of_an_erased_session_is_dropped() -> None:
    begun = begin(question())
    Message.objects.all().delete()
    Session.objects.all().delete()
    assert finish_turns([outcome(begun)]) == [None]
    assert Message.objects.count() == 0


def test_a_set_with_one_ended_turn_asks_to_be_taken_apart() -> None:
    good, ended = begin(question("a")), begin(question("b"))
    Message.objects.filter(session=ended.session_pk, position=1).update(status="cancelled")
    with pytest.raises(NotAllAtOnce), transaction.atomic():
        finish_turns([outcome(good), outcome(ended)])
    assert rows("a")[1][3] == "pending"


# Dead turns


def age(begun: BegunTurn, runner: str, seconds: float) -> None:
    Message.objects.filter(session=begun.session_pk, position=begun.position).update(
        runner=runner, heartbeat_at=timezone.now() - timedelta(seconds=seconds)
    )


def test_a_turn_without_a_heartbeat_is_interrupted_and_keeps_its_text() -> None:
    begun = begin(question())
    save_progress([Progress(begun.session_pk, 1, "Até aqui")])
    age(begun, "outra-maquina/1:1:1", 3600)
    assert interrupt_dead_turns() == 1
    reply = Message.objects.get(position=1)
    assert (reply.status, reply.content, reply.error_code) == ("interrupted", "Até aqui", "turn_interrupted")
    assert reply.may_have_been_billed
    assert interrupt_dead_turns() == 0


def test_a_living_turn_of_another_machine_is_left_alone() -> None:
    begun = begin(question())
    age(begun, "outra-maquina/1:1:1", 1)
    assert interrupt_dead_turns() == 0
    assert interrupt_turns([Message.objects.get(position=1).turn_id]) == [0]


def test_a_turn_of_a_process_that_is_gone_is_interrupted_at_once() -> None:
    begun = begin(question())
    namespace, pid, _start = this_process().split(":")
    age(begun, f"{namespace}:{pid}:1", 0)  # that pid, but it began at another time: it was used again
    assert interrupt_dead_turns() == 1


def test_a_process_knows_itself_alive() -> None:
    assert not is_gone(this_process())
    assert not is_gone("")
    assert not is_gone("outra-maquina/1:1:1")


def test_each_dead_turn_of_a_set_is_told() -> None:
    dead, living = begin(question("a")), begin(question("b"))
    age(dead, this_process(), 3600)
    turn_ids = [Message.objects.get(session=begun.session_pk, position=1).turn_id for begun in (living, dead)]
    assert interrupt_turns([*turn_ids, "nada"]) == [0, 1, 0]


# Reading replies


def test_nobody_is_taken_for_dead_right_after_an_outage() -> None:
    """Nobody could write a heartbeat meanwhile; one that is known to be gone is dead all the same."""
    silent, gone = question("a"), question("b")
    begin(silent)
    begin(gone)
    Message.objects.filter(position=1).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    Message.objects.filter(turn_id=gone.turn_id, position=1).update(runner=this_process().replace(":", ":9", 1))
    outages.note()
    assert interrupt_turns([silent.turn_id]) == [0]
    assert interrupt_dead_turns() == 1
    assert (rows("a")[1][3], rows("b")[1][3]) == ("pending", "interrupted")
    outages.last_at = -math.inf
    assert interrupt_turns([silent.turn_id]) == [1]


def test_replies_are_found_for_their_owner_alone() -> None:
    turn = question()
    begin(turn)
    found, stranger, missing = find_replies([("open", turn.turn_id), ("outro", turn.turn_id), ("open", "nada")])
    assert found is not None
    assert found.role == "assistant"
    assert (stranger, missing) == (None, None)


# The writer


@pytest.fixture
def writer() -> Any:
    """A writer of the test's own, whose thread lets go of its connection at the end."""
    writer = Writer()
    yield writer

    def let_go(arguments: Sequence[None]) -> list[None]:
        connection.close()
        return [None for _ in arguments]

    asyncio.run(one(writer, let_go, None))


async def one(writer: Writer, operation: Any, argument: Any) -> Any:
    return await writer.run(operation, argument)


def together(writer: Writer, operation: Any, arguments: Sequence[Any]) -> list[Any]:
    """The results, or exceptions, of jobs that are handed over at one moment."""

    async def run() -> list[Any]:
        return await asyncio.gather(
            *(writer.run(operation, argument) for argument in arguments), return_exceptions=True
        )

    return asyncio.run(run())


def test_each_job_gets_its_own_result(writer: Writer) -> None:
    def double(numbers: Sequence[int]) -> list[int]:
        return [2 * number for number in numbers]

    assert together(writer, double, range(3 * MOST_JOBS)) == [2 * number for number in range(3 * MOST_JOBS)]


def test_what_waits_is_one_transaction(writer: Writer) -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def work(arguments: Sequence[int]) -> list[int]:
        gate.wait(10)
        sizes.append(len(arguments))
        assert connection.in_atomic_block
        return list(arguments)

    async def run() -> None:
        first = writer.run(work, 0)
        await asyncio.sleep(0.05)
        rest = [writer.run(work, number) for number in range(1, 21)]
        gate.set()
        await asyncio.gather(first, *rest)

    asyncio.run(run())
    assert sum(sizes) == 21
    assert max(sizes) >= 20


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted", "cancelled"])
def test_an_outcome_that_is_recorded_twice_counts_once(status: str) -> None:
    """The writer runs a batch again when its commit's answer was lost."""
    recorded = outcome(begin(question()), status=status, prompt_tokens=7, cost=Decimal("0.5"))
    assert [finish_turns([recorded]) for _ in range(2)] == [[status], [status]]
    session = Session.objects.get()
    assert (session.prompt_tokens, session.cost) == (7, Decimal("0.5"))


def test_a_reply_that_was_cancelled_meanwhile_gets_all_that_had_come_and_what_it_cost() -> None:
    turn = question()
    begun = begin(turn)
    assert cancel_turns([turn.turn_id]) == [True]
    late = outcome(begun, "Tudo o que veio", prompt_tokens=7)
    assert [finish_turns([late]) for _ in range(2)] == [["cancelled"], ["cancelled"]]
    assert rows()[1] == (1, "assistant", "Tudo o que veio", "cancelled")
    assert Message.objects.get(position=1).finish_reason == "cancelled"
    assert Session.objects.get().prompt_tokens == 7


def test_a_turn_whose_beginning_was_never_answered_is_abandoned_and_its_key_is_free() -> None:
    lost = question(idempotency_key="k", fingerprint="f")
    begin(lost)
    foreign = question("outra", idempotency_key="l", fingerprint="f")
    begin(foreign)
    Message.objects.filter(turn_id=foreign.turn_id).update(runner="elsewhere")
    abandon_turns([lost.turn_id, foreign.turn_id])
    assert rows()[1] == (1, "assistant", "", "failed")
    assert rows("outra")[1][3] == "pending"
    assert IdempotencyKey.objects.values_list("key", flat=True).get() == "l"
    assert begin(question(idempotency_key="k", fingerprint="f")).position == 3


def test_a_key_outlives_its_running_turn(settings: Any) -> None:
    settings.IDEMPOTENCY_HOURS, settings.TURN_DEADLINE_SECONDS = 0.01, 7200
    turn = question(idempotency_key="k", fingerprint="f")
    begin(turn)
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert find_keys([turn]) == [KnownKey(turn.turn_id, "f")]
    assert drop_expired_keys() == 0
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=3))
    assert find_keys([turn]) == [None]
    assert drop_expired_keys() == 1


def test_a_result_comes_after_its_commit(writer: Writer) -> None:
    begun = asyncio.run(one(writer, begin_turns, question()))
    assert rows()[0][2] == "Oi"
    assert asyncio.run(one(writer, finish_turns, outcome(begun))) == "completed"
    assert rows()[1][3] == "completed"


def test_one_bad_job_does_not_fail_its_neighbours(writer: Writer) -> None:
    bad = question("a" * 20, metadata={"x": object()})  # no JSON
    results = together(writer, begin_turns, [question("a"), bad, question("b")])
    assert [type(result) for result in results] == [BegunTurn, TypeError, BegunTurn]
    assert Session.objects.count() == 2


def test_a_turn_that_was_ended_does_not_fail_its_neighbours(writer: Writer) -> None:
    first, second = begin(question("a")), begin(question("b"))
    Message.objects.filter(session=second.session_pk, position=1).update(status="cancelled")
    assert together(writer, finish_turns, [outcome(first), outcome(second)]) == ["completed", "cancelled"]
    assert rows("a")[1][3] == "completed"


def test_a_database_error_reaches_the_one_who_waits(writer: Writer) -> None:
    def fail(arguments: Sequence[None]) -> list[None]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nada")
        return []

    [problem] = together(writer, fail, [None])
    assert isinstance(problem, Exception)
    assert not isinstance(problem, TypeError)
    assert together(writer, begin_turns, [question()]) != []


@pytest.mark.parametrize("problem", [OperationalError, IntegrityError])
def test_a_job_is_tried_again_after_a_passing_failure(writer: Writer, problem: type[Exception]) -> None:
    attempts: list[int] = []

    def fail_once(arguments: Sequence[int]) -> list[int]:
        attempts.append(len(arguments))
        if len(attempts) == 1:
            raise problem("another process was in the way")
        return list(arguments)

    assert together(writer, fail_once, [7]) == [7]
    assert len(attempts) == 2


def test_nobody_waits_in_line_for_a_database_that_is_away(writer: Writer) -> None:
    attempts: list[int] = []

    def fail(arguments: Sequence[int]) -> list[int]:
        attempts.append(len(arguments))
        raise OperationalError("the database is away")

    results = together(writer, fail, range(MOST_JOBS // 2))
    assert {type(result) for result in results} == {OperationalError}
    assert len(attempts) < 10


def test_an_operation_that_forgets_a_result_is_an_error(writer: Writer) -> None:
    [problem] = together(writer, lambda arguments: [], [1])
    assert isinstance(problem, ValueError)


def test_who_stops_waiting_harms_nobody(writer: Writer) -> None:
    async def run() -> Any:
        leaving = asyncio.ensure_future(writer.run(begin_turns, question("a")))
        staying = writer.run(begin_turns, question("b"))
        leaving.cancel()
        return await staying

    assert isinstance(asyncio.run(run()), BegunTurn)
    assert isinstance(asyncio.run(one(writer, begin_turns, question("c"))), BegunTurn)


def test_many_loops_share_a_writer(writer: Writer) -> None:
    results: list[Any] = []

    def run(number: int) -> None:
        results.append(asyncio.run(one(writer, begin_turns, question(f"s{number}"))))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({begun.session_pk for begun in results}) == 8


def test_a_process_that_was_taken_for_dead_still_stores_its_whole_reply() -> None:
    begun = begin(question())
    dead = {"status": "interrupted", "error_code": "turn_interrupted", "completed_at": timezone.now()}
    Message.objects.filter(position=1).update(content="Até aqui", **dead)
    assert finish_turns([outcome(begun, "Tudo")]) == ["completed"]
    assert rows()[1] == (1, "assistant", "Tudo", "completed")


def test_another_process_s_interrupted_turn_is_left_alone() -> None:
    begun = begin(question())
    Message.objects.filter(position=1).update(status="interrupted", runner="elsewhere:1:1")
    assert finish_turns([outcome(begun, "Tudo")]) == ["interrupted"]
