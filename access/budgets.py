"""How many turns of an owner may run, what they may use in tokens and money, and what they did use.

A turn is begun only where what it may take at the most fits beside what has been used and what running turns may still
take; when it ends, what it really took is counted in the place of that. Everything here runs inside the transaction of
whoever begins or ends turns (sessions_api/store/turns.py), in few statements: with limits every turn pays for them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils import timezone

from access.callers import Limits
from access.limits import LimitStatus
from access.models import Account, Reservation
from web.moments import utc

ACCOUNTS = Account._meta.db_table
RESERVATIONS = Reservation._meta.db_table
COST_UNIT = Decimal("1e-12")  # USD
RETRY_SECONDS = 1.0  # seconds; when it is worth asking again whether a running turn has ended


@dataclass(frozen=True, slots=True)
class Quote:
    """What is allowed to the owner of a turn, and what the turn may take at the most besides its prompt.

    Prices are USD for a token; `per_request` is USD. `context`: the most tokens that a prompt can have.
    """

    limits: Limits
    context: int
    max_tokens: int
    prompt_price: Decimal = Decimal(0)
    completion_price: Decimal = Decimal(0)
    per_request: Decimal = Decimal(0)
    priced: bool = True

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        return prompt_tokens * self.prompt_price + completion_tokens * self.completion_price + self.per_request


@dataclass(frozen=True, slots=True)
class Hold:
    """What a turn that wants to begin may take at the most; `priced`: whether its cost can be foreseen."""

    turn_id: str
    owner: str
    limits: Limits
    tokens: int
    cost: Decimal
    priced: bool = True


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a turn took that had been begun with a hold; `None`: nobody knows, and so what was set aside."""

    turn_id: str
    tokens: int | None = None
    cost: Decimal | None = None


@dataclass(slots=True)
class Balance:
    """An owner's account while turns are let in: used on `day` and in `month`; and claimed by those that run."""

    owner: str
    day: date
    tokens: int
    month: date
    cost: Decimal
    turns_running: int = 0
    tokens_held: int = 0
    cost_held: Decimal = Decimal(0)

    @property
    def row(self) -> tuple[Any, ...]:
        day, month = (connection.ops.adapt_datefield_value(value) for value in (self.day, self.month))
        return day, self.tokens, month, _to_column(self.cost), self.owner

    def roll_over(self, today: date) -> None:
        """Begin a new day, or a new month. Never an old one again: another machine's clock may be ahead."""
        month = today.replace(day=1)
        if self.day < today:
            self.day, self.tokens = today, 0
        if self.month < month:
            self.month, self.cost = month, Decimal(0)

    def add(self, began_on: date, tokens: int, cost: Decimal) -> None:
        """What a turn took that has ended."""
        if began_on == self.day:
            self.tokens += tokens
        if began_on.replace(day=1) == self.month:
            self.cost += cost

    def set_running(self, turns: int, tokens: int, cost: Decimal) -> None:
        self.turns_running, self.tokens_held, self.cost_held = turns, tokens, cost

    def try_reserve(self, hold: Hold, now: datetime) -> LimitStatus | None:
        """Let the turn in, or answer with the limit that keeps it out."""
        refusal = self._exceeded_limit(hold, now)
        if refusal is None:
            self.set_running(self.turns_running + 1, self.tokens_held + hold.tokens, self.cost_held + hold.cost)
        return refusal

    def _exceeded_limit(self, hold: Hold, now: datetime) -> LimitStatus | None:
        limits = hold.limits
        tokens_left = limits.tokens_per_day - self.tokens - self.tokens_held
        cost_left = limits.cost_per_month - self.cost - self.cost_held
        if limits.tokens_per_day and hold.tokens > tokens_left:
            may_fit = self.tokens_held > 0 and hold.tokens <= tokens_left + self.tokens_held
            reset = RETRY_SECONDS if may_fit else _until_tomorrow(now)
            return LimitStatus("tokens_per_day", limits.tokens_per_day, tokens_left, reset, True, hold.tokens)
        if limits.cost_per_month and (hold.cost > cost_left or cost_left <= 0):
            may_fit = self.cost_held > 0 and hold.cost < cost_left + self.cost_held
            reset = RETRY_SECONDS if may_fit else _until_next_month(now)
            return LimitStatus("cost_per_month", limits.cost_per_month, cost_left, reset, True, hold.cost)
        # A cost that can't be foreseen can't be set aside: one after the other, or many at once would overspend.
        at_once = 1 if limits.cost_per_month and not hold.priced else limits.turns_in_flight
        if at_once and self.turns_running >= at_once:
            return LimitStatus("turns_in_flight", at_once, 0, RETRY_SECONDS, True)
        return None


def reserve(holds: Sequence[Hold]) -> list[LimitStatus | None]:
    """Set aside what each turn may take, in their order; answers with the limit that keeps a turn out.

    To be run in the transaction that begins the turns, once for each of them.
    """
    if not holds:
        return []
    balances = _lock(sorted({hold.owner for hold in holds}))
    now = timezone.now()  # after waiting for the lock, which may have taken until the next day
    for balance in balances.values():
        balance.roll_over(now.date())
    _settle_ended(balances)
    _count_running(balances)
    refusals = [balances[hold.owner].try_reserve(hold, now) for hold in holds]
    _store_reservations([hold for hold, refusal in zip(holds, refusals, strict=True) if refusal is None], now)
    return refusals


def _lock(owners: Sequence[str]) -> dict[str, Balance]:
    """The owners' accounts, which nobody else can use before the transaction's end; new ones where there are none.

    `owners` are sorted: with one order everywhere no two transactions can wait for each other.
    """
    today = timezone.now().date()
    day, month = (connection.ops.adapt_datefield_value(value) for value in (today, today.replace(day=1)))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {ACCOUNTS} (owner, day, tokens, month, cost) "
            f"VALUES {', '.join(['(%s, %s, 0, %s, 0)'] * len(owners))} "
            "ON CONFLICT (owner) DO UPDATE SET owner = excluded.owner RETURNING owner, day, tokens, month, cost",
            [value for owner in owners for value in (owner, day, month)],
        )
        return {
            owner: Balance(owner, day, tokens, month, _decimal(cost))
            for owner, day, tokens, month, cost in cursor.fetchall()
        }


def _settle_ended(balances: dict[str, Balance]) -> None:
    """Add what ended turns took to the accounts of the day and month in which they began."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {RESERVATIONS} WHERE owner IN ({_placeholders(balances)}) AND ended "
            "RETURNING owner, began_at, tokens, cost",
            list(balances),
        )
        ended = cursor.fetchall()
        for owner, began_at, tokens, cost in ended:
            balances[owner].add(utc(began_at).date(), tokens, _decimal(cost))
        cursor.executemany(
            f"UPDATE {ACCOUNTS} SET day = %s, tokens = %s, month = %s, cost = %s WHERE owner = %s",
            [balances[owner].row for owner in {owner for owner, *_ in ended}],
        )


def _count_running(balances: dict[str, Balance]) -> None:
    """Count what running turns may still take.

    One that another process ends at this very moment counts once more with what it had set aside, or took.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT owner, SUM(CASE WHEN ended THEN 0 ELSE 1 END), SUM(tokens), SUM(cost) FROM {RESERVATIONS} "
            f"WHERE owner IN ({_placeholders(balances)}) GROUP BY owner",
            list(balances),
        )
        for owner, turns, tokens, cost in cursor.fetchall():
            balances[owner].set_running(int(turns), int(tokens), _decimal(cost))


def _store_reservations(holds: Sequence[Hold], now: datetime) -> None:
    moment = connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {RESERVATIONS} (turn_id, owner, began_at, tokens, cost, ended) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            [(hold.turn_id, hold.owner, moment, hold.tokens, _to_column(hold.cost), False) for hold in holds],
        )


def _placeholders(values: Collection[str]) -> str:
    return ", ".join(["%s"] * len(values))


def _to_column(cost: Decimal | None) -> Any:
    return None if cost is None else connection.ops.adapt_decimalfield_value(cost.quantize(COST_UNIT), 20, 12)


def _decimal(value: Any) -> Decimal:
    """An amount as raw SQL gives it: SQLite has floats."""
    return Decimal(str(value)).quantize(COST_UNIT)


def settle(settlements: Sequence[Settlement]) -> None:
    """Record what turns took. It reaches the accounts when the owner's next turn asks; until then nobody need wait."""
    if not settlements:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {RESERVATIONS} SET ended = %s, tokens = COALESCE(%s, tokens), cost = COALESCE(%s, cost) "
            "WHERE turn_id = %s",
            [(True, settlement.tokens, _to_column(settlement.cost), settlement.turn_id) for settlement in settlements],
        )


def charge(settlements: Sequence[tuple[str, Settlement]]) -> None:
    """Count what was done for owners without setting it aside before, once for each `turn_id`."""
    if not settlements:
        return
    moment = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {RESERVATIONS} (turn_id, owner, began_at, tokens, cost, ended) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (turn_id) DO NOTHING",
            [
                (settlement.turn_id, owner, moment, settlement.tokens, _to_column(settlement.cost), True)
                for owner, settlement in settlements
            ],
        )


def _until_tomorrow(now: datetime) -> float:
    return (_midnight(now.date() + timedelta(days=1)) - now).total_seconds()


def _until_next_month(now: datetime) -> float:
    return (_midnight((now.date().replace(day=1) + timedelta(days=32)).replace(day=1)) - now).total_seconds()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
