"""access/budgets.py in many transactions at once: no overspending and no deadlocks."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from access.budgets import Hold, Settlement, settle
from access.callers import Limits
from access.models import Account, Reservation
from tests.access.test_limits_store import FLIGHT, ask, counted, end, hold

pytestmark = pytest.mark.django_db(transaction=True)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    def run(number: int) -> None:
        try:
            work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(run, number) for number in range(count)]:
            one.result(60)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_at_once_no_more_is_given_than_there_is(seed: int) -> None:
    """Four processes begin and end turns of five owners, in sets, in any order."""
    owners = "abcde"
    limits = Limits(turns_in_flight=4, tokens_per_day=300, cost_per_month=Decimal("3.00"))
    taken = dict.fromkeys(owners, 0)
    lock = threading.Lock()

    def work(number: int) -> None:
        dice, running = random.Random(f"{seed}-{number}"), list[Hold]()
        for _ in range(25):
            if running and dice.random() < 0.5:
                one = running.pop(dice.randrange(len(running)))
                tokens = dice.randint(0, one.tokens)
                with lock:
                    taken[one.owner] += tokens
                for _ in range(dice.choice((1, 1, 2))):
                    end(one, tokens, str(Decimal(tokens) / 100))
                continue
            holds = []
            for _ in range(dice.randint(1, 4)):
                tokens = dice.randint(1, 60)
                holds.append(hold(tokens, str(Decimal(tokens) / 100), dice.choice(owners), limits))
            names = ask(*holds)
            running += [one for one, name in zip(holds, names, strict=True) if not name]
            check_invariant(limits)

    in_threads(4, work)
    for owner in owners:
        Reservation.objects.filter(owner=owner, ended=False).delete()
        ask(hold(0, owner=owner, limits=Limits()))
        account = Account.objects.get(owner=owner)
        assert account.tokens == taken[owner] <= 300
        assert account.cost == Decimal(taken[owner]) / 100


def check_invariant(limits: Limits) -> None:
    """One statement sees one moment: usage and reservations never exceed the limit."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.tokens + COALESCE(SUM(r.tokens), 0), COALESCE(SUM(CASE WHEN r.ended THEN 0 ELSE 1 END), 0), "
            "a.cost + COALESCE(SUM(r.cost), 0) FROM access_account a "
            "JOIN access_reservation r ON r.owner = a.owner GROUP BY a.owner, a.tokens, a.cost"
        )
        for tokens, running, cost in cursor.fetchall():
            assert tokens <= limits.tokens_per_day
            assert running <= limits.turns_in_flight
            assert Decimal(str(cost)) <= limits.cost_per_month + Decimal("1e-9")


@contextmanager
def before(words: str, work: Callable[[], None]) -> Iterator[None]:
    """Another process does `work` just before the first statement with these words."""
    done = threading.Event()

    def look(execute: Any, sql: str, *rest: Any) -> Any:
        if words in sql and not done.is_set():
            done.set()
            in_threads(1, lambda _: work())
        return execute(sql, *rest)

    with connection.execute_wrapper(look):
        yield
    assert done.is_set()


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="on SQLite nobody else writes in between")
@pytest.mark.parametrize("words", ["INSERT INTO access_account", "DELETE FROM access_reservation", "SUM("])
def test_a_turn_that_ends_at_any_moment_is_not_overlooked(words: str) -> None:
    one = hold(60)
    ask(one)
    with before(words, lambda: end(one, tokens=60)):
        assert ask(hold(60)) == ["tokens_per_day"]


def test_sets_in_any_order_do_not_block_one_another() -> None:
    names = [f"owner-{number}" for number in range(12)]

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(6):
            some = dice.sample(names, 6)
            counted(*((name, 1000) for name in some))
            assert set(ask(*(hold(0, owner=name, limits=FLIGHT) for name in some))) <= {"", "turns_in_flight"}
            end_some(dice, some)

    def end_some(dice: random.Random, some: Sequence[str]) -> None:
        mine = list(Reservation.objects.filter(owner__in=some, ended=False).order_by("turn_id")[:5])
        with transaction.atomic():
            settle([Settlement(one.turn_id, dice.randint(0, 5), Decimal(0)) for one in mine])

    in_threads(4, work)
    running = Reservation.objects.filter(ended=False).order_by("owner").values_list("owner", flat=True)
    assert all(len(list(group)) <= 2 for _, group in itertools.groupby(running))
