"""Moments from a clock that was ahead and has been set back: they keep nobody out, and hold nothing for long."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import RequestFactory
from django.utils import timezone

from access import login_throttle
from access.budgets import Balance, budget_used
from access.callers import Caller, Limits
from access.clients import use_of
from access.limits import CountedRequest, count_requests
from access.models import Account, Client, Forking, LoginAttempts, RequestWindow, Reservation, Stored
from access.storage import totals
from access.storage.forks import refuse_busy, refuse_exhausted
from access.storage.totals import MB, Growth, Total
from sessions_api.console.facts import facts
from sessions_api.models import Cancellation, CountedUntil, IdempotencyKey, Lease, Message
from sessions_api.retention import dead_turns
from sessions_api.retention.dead_turns import interrupt_dead_turns
from sessions_api.retention.expiry import drop_expired_keys, end_lost_reservations
from sessions_api.retention.maintenance import take_lease
from sessions_api.statistics.tallies import count_ended
from sessions_api.store.lookups import find_keys
from sessions_api.store.quotas import count_again
from sessions_api.store.turns import finish_turns
from tests.access.test_limits_store import ask, hold
from tests.sessions_api.test_fork_limits import copy
from tests.support.clock import Clock
from tests.support.stored_turns import begin, outcome, question, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=400)], ids=["hours", "a year"]),
]
BOTH = Limits(tokens_per_day=100, cost_per_month=Decimal(1))
NEARLY_NOW = timedelta(seconds=5)  # another machine's clock


def left(who: str = "client:a") -> int:
    [status] = count_requests([CountedRequest(who, 10)])
    return int(status.remaining)


def test_a_minute_that_begins_later_is_over(ahead: timedelta) -> None:
    assert [left(), left()] == [9, 8]
    RequestWindow.objects.update(began_at=timezone.now() + NEARLY_NOW)
    assert left() == 7
    RequestWindow.objects.update(began_at=timezone.now() + ahead)
    assert use_of(Client(client_id="a"))[0].used == 0
    assert [left(), left()] == [9, 8]


def test_a_lock_of_the_login_that_lasts_longer_than_any_is_over(ahead: timedelta) -> None:
    request = RequestFactory().post("/admin/login/")
    assert login_throttle.attempt(request, "ana") == 0
    full = LoginAttempts.objects.all()
    full.update(tries=1000, until=timezone.now() + timedelta(minutes=15))
    assert login_throttle.attempt(request, "ana") > 800
    full.update(until=timezone.now() + ahead)
    assert login_throttle.locked_for(request, "ana") == 0
    assert login_throttle.attempt(request, "ana") == 0
    assert set(full.values_list("tries", flat=True)) == {1}
    full.update(until=timezone.now() + ahead)
    assert login_throttle.purge() == 2


def test_a_fork_that_would_last_for_hours_is_over(ahead: timedelta) -> None:
    later = timezone.now() + ahead
    Forking.objects.create(owner="a", holder="elsewhere", expires_at=later, size=20 * MB, resets_at=later)
    Stored.objects.create(owner="a")
    count_again(1)
    assert Stored.objects.get().counted_at
    refuse_busy("a", lambda name: False)
    assert copy() == ""
    large = {"size": 100 * MB, "expires_at": timezone.now(), "resets_at": timezone.now() + timedelta(minutes=5)}
    Forking.objects.update(**large)
    assert copy() == "forked_mb_per_minute"  # five minutes are what it needs


def test_a_day_and_a_month_that_have_not_come_hold_no_budget(ahead: timedelta) -> None:
    caller, now = Caller("a", "client", limits=BOTH), timezone.now()
    day = (now + max(ahead, timedelta(days=40))).date()
    used = {"day": day, "tokens": 100, "month": day.replace(day=1), "cost": Decimal(1)}
    for name in ("tokens_per_day", "cost_per_month"):
        until = now + max(ahead, timedelta(days=70))
        Account.objects.update_or_create(owner="a", defaults=used | {"exhausted": name, "exhausted_until": until})
        refuse_exhausted(caller)
        one = hold(100, "1.00", limits=BOTH)
        assert ask(one) == [""]
        Reservation.objects.filter(turn_id=one.turn_id).delete()
    Account.objects.update(exhausted="tokens_per_day", exhausted_until=now + timedelta(seconds=1))
    assert budget_used("a", now) == (0, 0, Decimal(0))


def test_a_machine_that_is_in_tomorrow_already_is_believed(ahead: timedelta) -> None:
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    balance = Balance("a", date(2026, 12, 1), 60, date(2026, 12, 1), Decimal("0.5"))
    balance.roll_over(midnight - NEARLY_NOW)
    assert (balance.day, balance.tokens, balance.cost) == (date(2026, 12, 1), 60, Decimal("0.5"))
    balance.roll_over(midnight - ahead)
    assert (balance.tokens, balance.cost) == (0, Decimal(0))
    assert balance.month == (midnight - ahead).date().replace(day=1)


def test_a_turn_that_begins_later_counts_today_and_ends_as_others_do(ahead: timedelta) -> None:
    one = hold(60, limits=BOTH)
    ask(one)
    Reservation.objects.update(began_at=timezone.now() + ahead)
    begin(question("s"))
    reply = Message.objects.filter(position=1)
    reply.update(turn_id=one.turn_id, status="completed", completed_at=timezone.now() + ahead)
    assert end_lost_reservations() == 1
    assert ask(hold(41, limits=BOTH), hold(40, limits=BOTH)) == ["tokens_per_day", ""]


def test_a_count_that_will_be_made_is_made_again(ahead: timedelta) -> None:
    total = Total("a", 5, 0, timezone.now() + ahead)
    assert total.try_add(Growth(1, 0), Limits(sessions=5))
    assert total.counted_at is None
    Stored.objects.create(owner="client:a", sessions=5, counted_at=timezone.now() + ahead)
    totals.tidy()
    assert not Stored.objects.filter(counted_at__isnull=False).exists()


def test_a_heartbeat_that_does_not_change_is_that_of_a_dead_turn(
    ahead: timedelta, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    clock = Clock()
    monkeypatch.setattr(dead_turns, "ahead", dead_turns.Ahead())
    monkeypatch.setattr("time.monotonic", clock)
    for session in ("dead", "living"):
        begin(question(session))
    pending = Message.objects.filter(status="pending")
    pending.update(runner="outra-maquina/1:1:1", heartbeat_at=timezone.now() + ahead)
    assert interrupt_dead_turns() == 0
    clock.now += settings.TURN_LEASE_SECONDS - 1
    pending.filter(session__session_id="living").update(heartbeat_at=timezone.now() + ahead)
    assert interrupt_dead_turns() == 0
    clock.now += 2
    assert interrupt_dead_turns() == 1
    assert (rows("dead")[1][3], rows("living")[1][3]) == ("interrupted", "pending")


def test_a_lease_that_lasts_longer_than_any_is_free(ahead: timedelta) -> None:
    lease = Lease.objects.filter(name="maintenance")
    Lease.objects.create(name="maintenance", holder="elsewhere", expires_at=timezone.now() + timedelta(seconds=14))
    assert not take_lease("maintenance", 15)
    assert not housekeeping_is_in_trouble()
    lease.update(expires_at=timezone.now() + ahead)
    assert housekeeping_is_in_trouble()
    assert take_lease("maintenance", 15)
    assert not housekeeping_is_in_trouble()


def housekeeping_is_in_trouble() -> bool:
    return next(fact.trouble for fact in facts() if str(fact.label) in ("housekeeping", "manutenção"))


def test_a_cancellation_goes_and_an_idempotency_key_stays(ahead: timedelta) -> None:
    """A key keeps nobody out. Without it, a message that is sent again would be asked and paid for twice."""
    turn = question("s", idempotency_key="k", fingerprint="f")
    begin(turn)
    IdempotencyKey.objects.update(created_at=timezone.now() + ahead)
    Cancellation.objects.create(turn_id=turn.turn_id, requested_at=timezone.now() + ahead)
    assert drop_expired_keys() == 0
    assert not Cancellation.objects.exists()
    [used] = find_keys([turn])
    assert used and used.turn_id == turn.turn_id


def test_turns_are_counted_on_from_now(ahead: timedelta) -> None:
    for kind in ("final", "changeable"):
        CountedUntil.objects.create(kind=kind, moment=timezone.now() + ahead)
    finish_turns([outcome(begin(question("s")))])
    count_ended()
    assert all(mark.moment <= timezone.now() for mark in CountedUntil.objects.all())
