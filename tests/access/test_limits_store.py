"""access/limits.py and budgets.py alone: what counts in which minute, day and month, in sets and when repeated."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from access.budgets import Hold, Offer, Quote, Settlement, reserve, settle
from access.callers import Caller, Limits
from access.limits import CountedRequest, LimitStatus, count_requests, network_of, purge_counters, requests_to_count
from access.models import Account, RequestWindow, Reservation
from sessions_api.models import Message, new_public_id
from sessions_api.retention.dead_turns import interrupt_dead_turns
from sessions_api.retention.expiry import end_lost_reservations
from sessions_api.store.messages import BegunTurn, NewTurn
from sessions_api.store.turns import abandon_turns, begin_turns
from web.errors import ApiError

pytestmark = pytest.mark.django_db(transaction=True)

TOKENS = Limits(tokens_per_day=100)
COST = Limits(cost_per_month=Decimal("1.00"))
FLIGHT = Limits(turns_in_flight=2)


def hold(tokens: int = 10, cost: str = "0", owner: str = "a", limits: Limits = TOKENS, turn: str = "") -> Hold:
    return Hold(turn or new_public_id(), owner, limits, tokens, Decimal(cost))


def ask(*holds: Hold) -> list[str]:
    """The name of the limit that refuses each hold; empty if none does."""
    with transaction.atomic():
        return [status.name if status else "" for status in reserve(holds)]


def refused(one: Hold) -> LimitStatus:
    with transaction.atomic():
        [status] = reserve([one])
    assert status is not None
    return status


def end(one: Hold, tokens: int = 0, cost: str = "0") -> None:
    with transaction.atomic():
        settle([Settlement(one.turn_id, tokens, Decimal(cost))])


def began(one: Hold, moment: datetime) -> None:
    """As if the turn had begun then."""
    Reservation.objects.filter(turn_id=one.turn_id).update(began_at=moment)


# Requests per minute


def counted(*requests: tuple[str, int]) -> list[tuple[int, int, bool]]:
    with transaction.atomic():
        statuses = count_requests([CountedRequest(*request) for request in requests])
    return [(int(one.limit), int(one.remaining), one.refused) for one in statuses]


def test_a_set_is_counted_in_the_order_in_which_it_came() -> None:
    assert counted(("a", 2), ("b", 1), ("a", 2), ("b", 1), ("a", 2)) == [
        (2, 1, False), (1, 0, False), (2, 0, False), (1, -1, True), (2, -1, True),
    ]  # fmt: skip
    assert counted(("b", 5)) == [(5, 2, False)]  # the refused requests count too


def test_a_new_minute_begins_with_the_first_request_after_the_last_one_s_end() -> None:
    counted(*[("a", 3)] * 3)
    RequestWindow.objects.update(began_at=timezone.now() - timedelta(seconds=59))
    assert counted(("a", 3)) == [(3, -1, True)]
    RequestWindow.objects.update(began_at=timezone.now() - timedelta(seconds=60))
    assert counted(("a", 3)) == [(3, 2, False)]
    assert timezone.now() - RequestWindow.objects.get().began_at < timedelta(seconds=10)


def test_the_reset_is_the_rest_of_the_minute() -> None:
    counted(("a", 1))
    RequestWindow.objects.update(began_at=timezone.now() - timedelta(seconds=40))
    with transaction.atomic():
        [status] = count_requests([CountedRequest("a", 1)])
    assert 10 < status.reset <= 20
    assert status.headers["RateLimit-Remaining"] == "0"
    assert status.error.code == "rate_limited"
    assert status.error.retry_after == status.reset


@pytest.mark.parametrize("address, network", [
    ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("::1", "::/64"), ("", ""), ("unix", "unix"),
])  # fmt: skip
def test_an_address_is_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_who_is_counted(settings: Any) -> None:
    settings.ADDRESS_REQUESTS_PER_MINUTE = 7
    client = Caller("client:x", "client", limits=Limits(5))
    assert requests_to_count(client, "192.0.2.7") == [("client:x", 5)]
    assert requests_to_count(Caller("open", "open", limits=Limits(5)), "192.0.2.7") == [
        ("address:192.0.2.7", 7),
        ("open", 5),
    ]
    assert requests_to_count(Caller("byok:x", "byok", limits=Limits()), "192.0.2.7") == [("address:192.0.2.7", 7)]
    assert requests_to_count(None, "192.0.2.7") == [("address:192.0.2.7", 7)]
    settings.ADDRESS_REQUESTS_PER_MINUTE = 0
    assert requests_to_count(None, "192.0.2.7") == []


# Turns


def test_what_runs_and_what_was_taken_count_together() -> None:
    first, second = hold(60), hold(40)
    assert ask(first, second, hold(1)) == ["", "", "tokens_per_day"]
    end(first, tokens=20)
    assert ask(hold(41), hold(40), hold(1)) == ["tokens_per_day", "", "tokens_per_day"]
    end(second, tokens=0)
    assert ask(hold(40)) == [""]


@pytest.mark.parametrize("limits, small, large", [
    (TOKENS, {"tokens": 40}, {"tokens": 61}), (COST, {"cost": "0.40"}, {"cost": "0.600000000001"}),
])  # fmt: skip
def test_a_claim_that_does_not_fit_leaves_room_for_one_that_does(limits: Limits, small: Any, large: Any) -> None:
    assert ask(hold(limits=limits, **small), hold(limits=limits, **large), hold(limits=limits, **small)) == [
        "", "tokens_per_day" if limits is TOKENS else "cost_per_month", "",
    ]  # fmt: skip


def test_only_so_many_run_at_once() -> None:
    one, two, three = (hold(limits=FLIGHT) for _ in range(3))
    assert ask(one, two, three) == ["", "", "turns_in_flight"]
    end(one, tokens=10**9)
    assert ask(three, hold(limits=FLIGHT)) == ["", "turns_in_flight"]


def test_owners_have_nothing_to_do_with_one_another() -> None:
    holds = [hold(60, owner=owner) for owner in "cabcab"]
    assert ask(*holds) == ["", "", "", *["tokens_per_day"] * 3]
    assert set(Account.objects.values_list("owner", flat=True)) == set("abc")


def test_a_turn_that_is_begun_again_is_let_in_again_and_counts_once() -> None:
    """The answer to its first beginning was lost."""
    turn = begin("x" * 150)  # 56 tokens, 6 for no system prompt, and 20 for the reply
    assert begin_again(turn) == [BegunTurn]
    assert ask(hold(19)) == ["tokens_per_day"]
    assert ask(hold(18)) == [""]
    assert begin_again(turn) == [BegunTurn]


def begin_again(turn: NewTurn) -> list[type]:
    with transaction.atomic():
        return [type(answer) for answer in begin_turns([turn])]


def test_a_turn_that_ends_twice_is_charged_once() -> None:
    one = hold(60)
    ask(one)
    for _ in range(2):
        end(one, tokens=30)
    assert ask(hold(71), hold(70)) == ["tokens_per_day", ""]
    end(one, tokens=30)  # after it had been added to the account
    assert Account.objects.get().tokens == 30


def test_when_it_is_worth_asking_again() -> None:
    one = hold(60)
    ask(one)
    assert refused(hold(41)).reset == 1  # the running turn may leave some
    assert refused(hold(101)).reset > 1  # not enough in any case
    end(one, tokens=60)
    status, now = refused(hold(41)), timezone.now()
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    assert abs(now + timedelta(seconds=status.reset) - midnight) < timedelta(seconds=30)
    assert status.error.code == "budget_exhausted"


def test_what_costs_nothing_is_refused_where_nothing_is_left() -> None:
    """No price was known beforehand; the real cost counts."""
    free = hold(limits=COST)
    assert ask(free) == [""]
    end(free, cost="1.00")
    assert ask(hold(limits=COST)) == ["cost_per_month"]


# Days and months


def test_a_new_day_begins_with_all_of_its_tokens_and_the_month_goes_on() -> None:
    both = Limits(tokens_per_day=100, cost_per_month=Decimal(1))
    one = hold(90, "0.50", limits=both)
    ask(one)
    end(one, tokens=90, cost="0.50")
    assert ask(hold(20, limits=both)) == ["tokens_per_day"]
    today = timezone.now().date()
    Account.objects.update(day=today - timedelta(days=1))
    assert ask(hold(100, "0.51", limits=both), hold(100, "0.50", limits=both)) == ["cost_per_month", ""]
    Account.objects.update(month=date(2020, 1, 1), day=date(2020, 1, 31))
    Reservation.objects.all().delete()
    assert ask(hold(100, "1.00", limits=both)) == [""]


def test_a_turn_counts_in_the_day_and_the_month_in_which_it_began() -> None:
    both = Limits(tokens_per_day=100, cost_per_month=Decimal(1))
    old = hold(90, "0.90", limits=both)
    ask(old)
    began(old, timezone.now() - timedelta(days=40))
    assert ask(hold(20, limits=both)) == ["tokens_per_day"]  # a running turn holds a part of today's
    end(old, tokens=90, cost="0.90")
    assert ask(hold(100, "1.00", limits=both)) == [""]
    assert not Reservation.objects.filter(turn_id=old.turn_id).exists()


def test_what_counts_no_more_is_forgotten() -> None:
    now = timezone.now()
    for owner in ("idle", "running", "present"):
        ask(hold(owner=owner))
    counted(("old", 1), ("new", 1))
    Reservation.objects.exclude(owner="running").delete()
    Account.objects.exclude(owner="present").update(month=date(2020, 1, 1))
    RequestWindow.objects.filter(counted="old").update(began_at=now - timedelta(minutes=3))
    purge_counters(now)
    assert set(Account.objects.values_list("owner", flat=True)) == {"running", "present"}
    assert [window.counted for window in RequestWindow.objects.all()] == ["new"]


# In the record


def begin(text: str = "Oi") -> NewTurn:
    quote = Quote(TOKENS, {"any/model": Offer(context=1000, max_tokens=20)})
    turn = NewTurn("a", new_public_id(), new_public_id(), text, quote=quote)
    with transaction.atomic():
        [answer] = begin_turns([turn])
    if isinstance(answer, LimitStatus):
        raise answer.error
    return turn


def test_a_lost_turn_is_charged_with_what_was_set_aside_for_it() -> None:
    turn = begin()
    end_lost_reservations()
    assert not Reservation.objects.get().ended  # it runs
    Message.objects.filter(turn_id=turn.turn_id).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    Reservation.objects.update(began_at=timezone.now() - timedelta(seconds=10))  # ten seconds ago, not yesterday
    interrupt_dead_turns(timezone.now())
    Message.objects.filter(turn_id=turn.turn_id).update(completed_at=timezone.now() - timedelta(minutes=1))
    assert end_lost_reservations() == 1
    ask(hold(1))
    assert Account.objects.get().tokens == 32  # 12 for the prompt, 20 for the reply


def test_a_turn_that_was_never_sent_is_charged_with_nothing() -> None:
    turn = begin()
    with transaction.atomic():
        abandon_turns([turn.turn_id])
    assert ask(hold(100)) == [""]


def test_a_refused_turn_leaves_nothing_behind() -> None:
    for _ in range(3):
        begin()
    with pytest.raises(ApiError):
        begin()
    assert (Message.objects.count(), Reservation.objects.count()) == (6, 3)
