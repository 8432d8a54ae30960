"""Background work takes little at once, however long the texts are, and leaves time to others."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access.callers import open_caller
from sessions_api import search
from sessions_api.api.forks import fork
from sessions_api.models import Message, Session
from sessions_api.retention import erasure
from tests.support.records import make_session
from web import pace
from web.pace import HOLD_SECONDS, MAX_CHARS, MAX_ROWS, Pace, bounded

LONG = 99_000  # characters


class Clock:
    """Time that passes when a batch takes it, or somebody sleeps."""

    def __init__(self) -> None:
        self.now = self.slept = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def paced(clock: Clock, seconds_per_row: float, batches: int = 12) -> tuple[Pace, list[float]]:
    """What so many batches took."""
    one, took = Pace(), []
    for _ in range(batches):
        with one.batch() as rows:
            clock.now += rows * seconds_per_row
            took.append(rows * seconds_per_row)
        one.rest()
    return one, took


@pytest.mark.parametrize("seconds_per_row", [0.00001, 0.0005, 0.003, 0.02, 0.2])
def test_batches_grow_and_shrink_until_each_takes_little(clock: Clock, seconds_per_row: float) -> None:
    one, took = paced(clock, seconds_per_row)
    assert all(seconds <= max(2 * HOLD_SECONDS, seconds_per_row) for seconds in took[4:])
    assert clock.slept == pytest.approx(sum(took))
    assert one.rows == (MAX_ROWS if seconds_per_row < 0.0001 else max(1, one.rows))


def test_few_are_bounded_by_rows_and_by_text_and_no_more_is_read() -> None:
    def rows(*lengths: int) -> Iterator[tuple[int, int]]:
        for number, length in enumerate(lengths):
            read.append(number)
            yield number, length

    for lengths, most, taken in (
        ((1, 1, 1, 1), 3, 3),
        ((LONG, LONG, LONG), 500, 1),
        ((10 * MAX_CHARS, 1), 500, 1),
        ((MAX_CHARS // 2, MAX_CHARS // 2, 1), 500, 2),
        ((), 5, 0),
    ):
        read: list[int] = []
        assert bounded(rows(*lengths), most) == list(range(taken))
        assert len(read) <= taken + 1


@pytest.mark.django_db(transaction=True)
def test_long_messages_are_taken_one_at_a_time() -> None:
    def writes(work: Callable[[], object], statement: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            work()
        return len([query for query in queries if statement in query["sql"]])

    session, turns = make_session(turns=4), 4
    Message.objects.update(content="palavra " * (LONG // 8))
    if connection.vendor == "sqlite":
        assert writes(lambda: search.catch_up(60), "INSERT INTO sessions_api_words(rowid") == 2 * turns
    copies = writes(lambda: fork(session, None, "copia", open_caller()), 'INSERT INTO "sessions_api_message"')
    assert copies == Message.objects.filter(session__session_id="copia").count() == 2 * turns
    if connection.vendor == "sqlite":
        erased = writes(
            lambda: erasure.erase(Session.objects.filter(pk=session.pk)), 'DELETE FROM "sessions_api_message"'
        )
        assert erased >= 2 * turns
    else:
        erasure.erase(Session.objects.filter(pk=session.pk))
    assert list(Session.objects.values_list("session_id", flat=True)) == ["copia"]
    assert Message.objects.count() == 2 * turns


@pytest.mark.django_db(transaction=True)
def test_short_and_long_sessions_are_removed_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_ROWS", 4)
    monkeypatch.setattr(pace, "MAX_ROWS", 4)
    lengths = (0, 1, 5, 0, 2, 0)  # in turns of two messages
    for turns in lengths:
        make_session(turns=turns)
    steps, sessions, one = [], Session.objects.all(), Pace()
    while any(step := erasure._remove_some(sessions, one)):
        steps.append(step)
    assert (sum(step.sessions for step in steps), sum(step.messages for step in steps)) == (6, 2 * sum(lengths))
    assert not Message.objects.exists()
    if connection.vendor == "sqlite":
        assert max(step.messages for step in steps) <= 4
