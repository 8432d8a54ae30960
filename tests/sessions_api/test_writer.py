"""sessions_api/store/writer.py: waiting jobs share a transaction, and each gets its own result."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection

from sessions_api.models import Message, Session
from sessions_api.store.messages import BegunTurn, TurnProgress
from sessions_api.store.turns import begin_turns, finish_turns
from sessions_api.store.writer import MAX_JOBS, Job, Writer
from tests.support.stored_turns import begin, outcome, question, rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def writer() -> Any:
    """The test's own writer, whose thread closes its connection at the end."""
    writer = Writer()
    yield writer

    def let_go(arguments: Sequence[None]) -> list[None]:
        connection.close()
        return [None for _ in arguments]

    asyncio.run(one(writer, let_go, None))


async def one(writer: Writer, operation: Any, argument: Any) -> Any:
    return await writer.run(operation, argument)


def together(writer: Writer, operation: Any, arguments: Sequence[Any]) -> list[Any]:
    """The results, or exceptions, of jobs that are submitted at one moment."""

    async def run() -> list[Any]:
        return await asyncio.gather(
            *(writer.run(operation, argument) for argument in arguments), return_exceptions=True
        )

    return asyncio.run(run())


def test_each_job_gets_its_own_result(writer: Writer) -> None:
    def double(numbers: Sequence[int]) -> list[int]:
        return [2 * number for number in numbers]

    assert together(writer, double, range(3 * MAX_JOBS)) == [2 * number for number in range(3 * MAX_JOBS)]


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


def test_a_result_comes_after_its_commit(writer: Writer) -> None:
    begun = asyncio.run(one(writer, begin_turns, question()))
    assert rows()[0][2] == "Oi"
    assert asyncio.run(one(writer, finish_turns, outcome(begun))) == "completed"
    assert rows()[1][3] == "completed"


def test_one_bad_job_does_not_fail_its_neighbours(writer: Writer) -> None:
    bad = question("a" * 20, metadata={"x": object()})  # not JSON
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

    results = together(writer, fail, range(MAX_JOBS // 2))
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


# Long texts


def test_long_texts_go_last_and_few_at_once() -> None:
    def put(size: int) -> None:
        own._jobs.put(Job(begin_turns, TurnProgress(1, 1, "x" * size), loop, loop.create_future()))

    def taken() -> list[int]:
        return [len(one.argument.content) for one in own._take(long)]

    loop, own, long = asyncio.new_event_loop(), Writer(), deque[Job]()
    for size in (150_000, 10, 150_000, 150_000, 20, 900_000):
        put(size)
    assert taken() == [10, 20, 150_000, 150_000]
    put(30)
    assert taken() == [30, 150_000, 900_000]
    assert not long
    loop.close()
