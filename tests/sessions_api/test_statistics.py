"""Counts of turns: each counts once, in every dimension, and percentiles stay within their bound."""

import math
import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from sessions_api.models import CountedUntil, Feedback, Message, Session, SessionCost, Tally
from sessions_api.retention import erasure, maintenance
from sessions_api.retention.maintenance import Maintenance
from sessions_api.statistics import overview, tallies
from sessions_api.statistics.histograms import bucket_of, percentile
from sessions_api.statistics.overview import Line, Period, active_sessions, dearest_sessions, periods, ratings
from testing.client import wait_until
from tests.support.ended import add_ended, add_random
from tests.support.records import make_session
from web import pace

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONG_ENOUGH = timedelta(minutes=30)  # after its end every turn may be counted


def period(name: str) -> Period:
    return periods(timezone.now())[name]


def numbers(turns: Iterable[Message]) -> dict[str, Any]:
    """The expected figures of these turns, added up one by one."""
    turns = list(turns)
    return {
        "turns": len(turns),
        "failed": sum(turn.status in ("failed", "interrupted") for turn in turns),
        "cancelled": sum(turn.status == "cancelled" for turn in turns),
        "prompt_tokens": sum(turn.prompt_tokens or 0 for turn in turns),
        "completion_tokens": sum(turn.completion_tokens or 0 for turn in turns),
        "cost": sum((turn.cost or Decimal() for turn in turns), Decimal()),
        "first_token": sum(turn.first_token_ms is not None for turn in turns),
        "total": sum(turn.latency_ms is not None and turn.status == "completed" for turn in turns),
    }


def told(line: Line) -> dict[str, Any]:
    sums = line.sums
    counts = {name: getattr(sums, name) for name in tallies.NUMBERS}
    cost = Decimal(counts["cost"]).quantize(Decimal("1e-9"))
    return counts | {"cost": cost, "first_token": sums.first_token.total(), "total": sums.total.total()}


def within(turns: Iterable[Message], chosen: Period) -> list[Message]:
    return [turn for turn in turns if turn.completed_at and chosen.since <= turn.completed_at < chosen.until]


def check(turns: list[Message], name: str) -> None:
    """The overview of a period equals a count of all its turns."""
    chosen = period(name)
    mine, seen = within(turns, chosen), overview.overview(chosen)
    assert told(seen.whole) == numbers(mine)
    for step in seen.steps:
        assert step.start is not None
        inside = [
            turn for turn in mine if turn.completed_at and step.start <= turn.completed_at < step.start + chosen.step
        ]
        assert told(step) == numbers(inside)
    models = {line.name: told(line) for line in seen.models}
    names = {turn.model for turn in mine}
    assert models == {name: numbers(t for t in mine if t.model == name) for name in names}
    clients = {line.name: told(line) for line in seen.clients}
    owners = dict(Session.objects.values_list("pk", "owner"))
    of = {turn.pk: tallies.client_of(owners[turn.session_id]) for turn in mine}
    assert clients == {name: numbers(t for t in mine if of[t.pk] == name) for name in set(of.values())}
    errors = {line.name: line.sums.turns for line in seen.errors}
    codes = [turn.error_code for turn in mine if turn.error_code]
    assert errors == {code: codes.count(code) for code in set(codes)}


def test_every_turn_is_counted_once_before_and_after_the_tallies_are_moved_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(pace, "FIRST_ROWS", 70)
    monkeypatch.setattr(pace, "MAX_ROWS", 70)
    turns = add_random(600, timezone.now(), 8 * DAY)
    for name in ("24h", "yesterday", "7d", "30d"):
        check(turns, name)
    assert tallies.count_ended()
    counted = Tally.objects.filter(grain="day", dimension="all")
    assert 0 < sum(counted.values_list("turns", flat=True)) < 600 + 1
    for name in ("24h", "yesterday", "7d", "30d"):
        check(turns, name)
    before = list(Tally.objects.order_by("pk").values())
    assert tallies.count_ended()
    assert list(Tally.objects.order_by("pk").values()) == before


def test_two_processes_that_count_at_once_count_every_turn_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(pace, "FIRST_ROWS", 20)
    monkeypatch.setattr(pace, "MAX_ROWS", 20)
    now = timezone.now()
    turns = add_random(300, now - LONG_ENOUGH, DAY)
    together = threading.Barrier(3)  # and the test itself: the pool has four connections

    def count() -> None:
        together.wait()
        try:
            tallies.count_ended()
        finally:
            connection.close()

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tallies.count_ended()
    for grain in ("hour", "day"):
        counted = Tally.objects.filter(grain=grain, dimension="all")
        assert sum(counted.values_list("turns", flat=True)) == 300
    assert sum(SessionCost.objects.values_list("turns", flat=True)) == 300
    check(turns, "30d")


def test_the_housekeeping_of_a_running_service_counts(monkeypatch: Any) -> None:
    monkeypatch.setattr(maintenance, "ROUND_SECONDS", 0.05)
    add_ended(make_session(turns=0), timezone.now() - HOUR)
    service = Maintenance()
    service.start()
    wait_until(lambda: Tally.objects.filter(dimension="all").count() == 2)
    service.stop()
    service.join()
    assert list(Tally.objects.filter(dimension="all").values_list("turns", flat=True)) == [1, 1]


def test_a_dead_turn_that_ends_well_after_all_is_counted_once() -> None:
    session, now = make_session(turns=0), timezone.now()
    reply = add_ended(session, now - timedelta(minutes=4), status="interrupted", error_code="turn_interrupted")
    tallies.count_ended()
    assert overview.overview(period("30d")).whole.sums.failed == 1
    late = {"status": "completed", "error_code": "", "completed_at": now - timedelta(seconds=10)}
    Message.objects.filter(pk=reply.pk).update(**late)
    tallies.count_ended()
    whole = overview.overview(period("30d")).whole.sums
    assert (whole.turns, whole.failed) == (1, 0)


def test_an_outcome_that_is_stored_late_is_counted() -> None:
    session, now = make_session(turns=0), timezone.now()
    add_ended(session, now)
    tallies.count_ended()
    add_ended(session, now - timedelta(seconds=60))
    tallies.count_ended()
    assert overview.overview(period("30d")).whole.sums.turns == 2


def test_what_was_copied_or_imported_is_no_turn() -> None:
    session = make_session(turns=0)
    add_ended(session, timezone.now() - HOUR, runner="")
    tallies.count_ended()
    assert overview.overview(period("30d")).whole.sums.turns == 0


def test_what_an_erased_session_took_stays_counted_and_nothing_else_of_it() -> None:
    session = make_session(turns=0)
    add_ended(session, timezone.now() - HOUR, cost=Decimal("0.5"))
    tallies.count_ended()
    assert [dear.session for dear in dearest_sessions(period("30d"))] == [session]
    erasure.erase(Session.objects.all())
    assert overview.overview(period("30d")).whole.sums.cost == Decimal("0.5")
    assert dearest_sessions(period("30d")) == []
    assert not SessionCost.objects.exists()


def test_the_dearest_sessions_are_those_of_the_period() -> None:
    today = tallies.day_of(timezone.now())
    dear, cheap = make_session("cara", turns=0), make_session("barata", turns=0)
    for moment, cost in ((today - HOUR, "0.25"), (today - 20 * HOUR, "0.5"), (today - 3 * DAY, "9")):
        add_ended(dear, moment, cost=Decimal(cost), prompt_tokens=10, completion_tokens=1)
    add_ended(cheap, today - HOUR, cost=Decimal("0.3"))
    tallies.count_ended()
    found = [(one.session, one.cost, one.turns, one.tokens) for one in dearest_sessions(period("yesterday"))]
    assert found == [(dear, Decimal("0.75"), 2, 22), (cheap, Decimal("0.3"), 1, 0)]
    assert [one.cost for one in dearest_sessions(period("30d"))] == [Decimal("9.75"), Decimal("0.3")]


def test_where_there_are_no_prices_those_with_most_tokens_come_first() -> None:
    for name, tokens in (("a", 10), ("b", 30), ("c", 20)):
        add_ended(make_session(name, turns=0), timezone.now() - HOUR, prompt_tokens=tokens)
    tallies.count_ended()
    assert [one.session.session_id for one in dearest_sessions(period("30d"))] == ["b", "c", "a"]


def test_of_hours_long_past_the_dearest_sessions_are_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(tallies, "COSTS_PER_HOUR", 2)
    then = tallies.hour_of(timezone.now()) - 3 * DAY
    for number in range(5):
        add_ended(make_session(f"s{number}", turns=0), then, cost=Decimal(number))
    tallies.count_ended()
    tallies.purge()
    assert sorted(SessionCost.objects.values_list("cost", flat=True)) == [3, 4]


def test_old_tallies_are_removed() -> None:
    now = timezone.now()
    session = make_session(turns=0)
    for age in (HOUR, 5 * DAY, 500 * DAY):
        add_ended(session, now - age)
    tallies.count_ended()
    tallies.purge()
    left = Tally.objects.filter(dimension="all").order_by("grain", "start").values_list("grain", "turns")
    assert list(left) == [("day", 1), ("day", 1), ("hour", 1)]


def test_a_long_backlog_is_shown_as_far_as_it_was_read(monkeypatch: Any) -> None:
    monkeypatch.setattr(overview, "MAX_LIVE", 50)
    turns = add_random(200, timezone.now() - LONG_ENOUGH, 3 * DAY)
    seen = overview.overview(period("7d"))
    moments = sorted(turn.completed_at for turn in turns if turn.completed_at)
    assert (seen.whole.sums.turns, seen.counted_until) == (50, moments[49])
    tallies.count_ended()
    assert overview.overview(period("7d")).counted_until is None


def test_who_has_most_turns_is_named_and_the_others_are_one_line(monkeypatch: Any) -> None:
    monkeypatch.setattr(overview, "MAX_LINES", 2)
    session = make_session(turns=0)
    for number, model in enumerate(["um"] * 3 + ["dois"] * 2 + ["três", "quatro"]):
        add_ended(session, timezone.now() - HOUR - timedelta(minutes=number), model=model, latency_ms=100)
    for _ in range(2):
        lines = overview.overview(period("30d")).models
        assert [(line.name, line.sums.turns) for line in lines] == [("um", 3), ("dois", 2), ("", 2)]
        assert "2" in str(lines[2].label)
        tallies.count_ended()


def test_of_many_models_in_a_day_the_rest_has_no_name_and_none_is_lost(monkeypatch: Any) -> None:
    monkeypatch.setattr(tallies, "MAX_MODELS", 4)
    monkeypatch.setattr(pace, "FIRST_ROWS", 2)
    monkeypatch.setattr(pace, "MAX_ROWS", 2)
    session, noon = make_session(turns=0), tallies.day_of(timezone.now()) - DAY / 2
    invented = [(f"x{number}", "failed") for number in range(5)]
    real = [(name, "completed") for name in ("a", "b", "c", "a", "b")]
    for number, (model, status) in enumerate(invented + real):
        add_ended(session, noon + timedelta(minutes=number), model=model, status=status)
    tallies.count_ended()
    for grain in ("day", "hour"):
        of_models = Tally.objects.filter(grain=grain, dimension="model").values_list("name", "turns")
        assert dict(of_models) == {"x0": 1, "x1": 1, "": 4, "a": 2, "b": 2}
    assert sum(line.sums.turns for line in overview.overview(period("7d")).models) == 10


def test_what_ended_before_a_model_answered_is_counted_under_no_name() -> None:
    add_ended(make_session(turns=0, model="inventado"), timezone.now() - HOUR, status="interrupted")
    for _ in range(2):
        assert [line.name for line in overview.overview(period("30d")).models] == [""]
        tallies.count_ended()


def test_active_sessions_and_ratings_are_those_of_the_period() -> None:
    now = timezone.now()
    for age in (HOUR / 4, 3 * DAY, 20 * DAY, 40 * DAY):
        session = make_session(age=age)
        for position, rating in enumerate(("up", "down", "down")):
            Feedback.objects.create(session=session, position=position, rating=rating, created_at=now - age)
    assert [active_sessions(period(name)) for name in ("24h", "yesterday", "7d", "30d")] == [1, None, 2, 3]
    assert ratings(period("7d")) == {"up": 2, "down": 4}


def test_the_index_of_ends_answers_what_is_read() -> None:
    turns = tallies.ended_turns().filter(completed_at__gt=timezone.now() - HOUR)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
            plan = turns.explain()
            cursor.execute("RESET enable_seqscan")
    else:
        plan = turns.explain()
    assert "message_ended" in plan


def test_where_nothing_has_ended_nothing_is_written() -> None:
    tallies.count_ended()
    before = list(CountedUntil.objects.order_by("kind").values_list("kind", "moment"))
    tallies.count_ended()
    assert list(CountedUntil.objects.order_by("kind").values_list("kind", "moment")) == before


@given(st.lists(st.integers(min_value=1, max_value=10**7), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_at_most_two_and_a_half_percent_off(durations: list[int], share: float) -> None:
    histogram: dict[int, int] = {}
    for duration in durations:
        histogram[bucket_of(duration)] = histogram.get(bucket_of(duration), 0) + 1
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found = percentile(histogram, share)
    assert found is not None
    assert abs(found - exact) <= 0.025 * exact


def test_nothing_has_no_percentile() -> None:
    assert percentile({}, 0.95) is None
    assert percentile({bucket_of(0): 3}, 0.5) == 0.0


def test_periods_are_whole_hours_and_days() -> None:
    found = periods(datetime(2026, 3, 1, 14, 30, tzinfo=timezone.get_default_timezone()))
    spans = {name: (f"{one.since:%d %H}", f"{one.until:%d %H}", len(one.starts)) for name, one in found.items()}
    assert spans == {
        "24h": ("28 15", "01 15", 24),
        "yesterday": ("28 00", "01 00", 24),
        "7d": ("23 00", "02 00", 7),
        "30d": ("31 00", "02 00", 30),
    }
