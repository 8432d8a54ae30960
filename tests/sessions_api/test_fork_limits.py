"""Forks cost their caller nothing, so they run one at a time, so much a minute, and only while there is a budget."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from access.callers import Caller, Limits
from access.models import Account, Forking, Reservation
from access.storage.forks import one_fork, refuse_exhausted
from access.storage.totals import MB
from sessions_api.api.forks import fork
from sessions_api.models import Session
from sessions_api.retention import erasure
from sessions_api.store import sizes
from sessions_api.store.quotas import count_again
from sessions_api.store.turns import finish_turns
from tests.access.test_limits_store import ask, hold
from tests.support.stored_turns import begin, outcome, question
from web.errors import ApiError

pytestmark = pytest.mark.django_db(transaction=True)

MINE = Caller("open", "client", limits=Limits(sessions=100, stored_mb=100))


def copy(size: int = MB, gone: bool = False) -> str:
    """The limit that refuses a fork; empty if none does."""
    try:
        with one_fork("a", size, "here", lambda name: gone):
            return ""
    except ApiError as refused:
        assert (refused.code, refused.status_code) == ("rate_limited", 429)
        assert refused.retry_after and refused.retry_after >= 1
        return str(refused.extra["limit"])


def test_a_second_fork_of_an_owner_waits_for_the_first() -> None:
    with one_fork("a", 1, "here", lambda name: False):
        assert copy() == "forks_at_once"
        with one_fork("b", 1, "here", lambda name: False):
            pass
    assert copy() == ""


def test_a_fork_that_fails_frees_the_place() -> None:
    with pytest.raises(ZeroDivisionError), one_fork("a", 1, "here", lambda name: False):
        raise ZeroDivisionError
    assert copy() == ""


@pytest.mark.parametrize("end", ["its process is gone", "its time is over"])
def test_a_fork_whose_process_ended_blocks_nobody_for_ever(end: str) -> None:
    until = timezone.now() + timedelta(seconds=60 if end == "its process is gone" else -1)
    Forking.objects.create(owner="a", holder="dead", expires_at=until, size=0, resets_at=timezone.now())
    assert copy(gone=end == "its process is gone") == ""


def test_twenty_megabytes_are_copied_in_a_minute() -> None:
    assert [copy(8 * MB) for _ in range(4)] == ["", "", "forked_mb_per_minute", "forked_mb_per_minute"]
    assert copy(4 * MB) == ""
    Forking.objects.update(resets_at=timezone.now())
    assert copy(8 * MB) == ""


def test_a_larger_conversation_can_be_copied_and_takes_the_minutes_that_it_needs() -> None:
    assert [copy(100 * MB), copy(1)] == ["", "forked_mb_per_minute"]
    left = Forking.objects.get().resets_at - timezone.now()
    assert timedelta(minutes=4.9) < left < timedelta(minutes=5.1)


# Budgets


def refusal(limits: Limits) -> str:
    try:
        refuse_exhausted(Caller("a", "client", limits=limits))
    except ApiError as refused:
        assert refused.status_code == 402
        return str(refused.extra["limit"])
    return ""


TOKENS, COST = Limits(tokens_per_day=100), Limits(cost_per_month=Decimal(1))


@pytest.mark.parametrize("limits, fits, large", [(TOKENS, (60, "0"), (50, "0")), (COST, (1, "0.60"), (1, "0.50"))])
def test_whose_last_message_the_budget_refused_may_not_fork(limits: Limits, fits: Any, large: Any) -> None:
    name = "tokens_per_day" if limits is TOKENS else "cost_per_month"
    assert refusal(limits) == ""
    ask(hold(fits[0], fits[1], limits=limits))
    Reservation.objects.update(ended=True)
    assert refusal(limits) == ""
    assert ask(hold(large[0], large[1], limits=limits)) == [name]
    assert refusal(limits) == name
    assert refusal(Limits(turns_in_flight=1)) == ""  # the limit was removed
    assert ask(hold(1, "0.01", limits=limits)) == [""]
    assert refusal(limits) == ""


def test_a_budget_that_a_running_turn_may_free_keeps_nobody_from_forking() -> None:
    ask(hold(60))
    assert ask(hold(50)) == ["tokens_per_day"]
    assert refusal(TOKENS) == ""


def test_a_budget_that_is_used_up_needs_no_refusal_and_ends_with_its_day() -> None:
    today = timezone.now().date()
    Account.objects.create(owner="a", day=today, tokens=100, month=today.replace(day=1), cost=Decimal(1))
    assert (refusal(TOKENS), refusal(COST)) == ("tokens_per_day", "cost_per_month")
    long_ago = today - timedelta(days=40)
    over = {"exhausted": "tokens_per_day", "exhausted_until": timezone.now()}
    Account.objects.update(day=long_ago, month=long_ago.replace(day=1), **over)
    assert (refusal(TOKENS), refusal(COST)) == ("", "")


# The fork itself


def test_a_fork_is_counted_as_what_it_stores() -> None:
    begun = begin(question("s", "um" * 1000, storage_limits=MINE.limits, system_prompt="Seja breve."))
    finish_turns([outcome(begun, "dois" * 1000, stored_for="open")])
    session = Session.objects.get()
    for after_turn in (None, ""):
        fork(session, after_turn, f"copy-{after_turn}", MINE)
    assert sizes.difference("open") == (0, 0)


def test_a_fork_that_fails_is_counted_as_nothing() -> None:
    begin(question("s", "um" * 1000, storage_limits=MINE.limits))
    session = Session.objects.get()
    erasure.close(Session.objects.all())
    with pytest.raises(ApiError, match="ess"):  # it was closed meanwhile
        fork(session, "", "copy", MINE)
    assert Session.objects.count() == 1
    assert not Forking.objects.filter(expires_at__gt=timezone.now()).exists()
    count_again(5)
    assert sizes.difference("open") == (0, 0)


def test_an_open_session_of_that_name_is_found_before_anything_is_counted() -> None:
    begin(question("s", storage_limits=MINE.limits))
    with pytest.raises(ApiError) as refused:
        fork(Session.objects.get(), "", "s", MINE)
    assert refused.value.code == "session_exists"
    assert not Forking.objects.exists()
    assert sizes.difference("open") == (0, 0)
