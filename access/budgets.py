"""Budgets of an owner: how many turns may run, and how many tokens and how much money they may use.

A turn reserves the most that it can use. It begins only if that fits beside past usage and the reservations of running
turns. When it ends, its real usage replaces the reservation. All of this runs in the transaction that begins or ends
turns (sessions_api/store/turns.py), in few statements, because every turn of a limited owner pays for them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Q, Sum
from django.utils import timezone

from access.callers import Limits
from access.limits import BUDGETS, LimitStatus
from access.models import Account, Reservation
from web.moments import SKEW, lasts, utc

ACCOUNTS = Account._meta.db_table
RESERVATIONS = Reservation._meta.db_table
COST_UNIT = Decimal("1e-12")  # USD
RETRY_SECONDS = 1.0  # until a client should retry when a running turn may free the limit


class Offer(NamedTuple):
    """The most that a turn can use of a model besides its prompt.

    Prices are USD per token; `per_request` is USD. `context`: the most tokens that a prompt can have. `priced`: whether
    the prices are known.
    """

    context: int
    max_tokens: int
    prompt_price: Decimal = Decimal(0)
    completion_price: Decimal = Decimal(0)
    per_request: Decimal = Decimal(0)
    priced: bool = True

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        return prompt_tokens * self.prompt_price + completion_tokens * self.completion_price + self.per_request


@dataclass(frozen=True, slots=True)
class Quote:
    """The limits of a turn's owner, and the offers of the models that may answer, by name."""

    limits: Limits
    offers: Mapping[str, Offer]

    def hold(self, turn_id: str, owner: str, prompt_tokens: int) -> "Hold":
        """The most that the turn can use, whichever model answers."""
        tokens, cost = self.most(prompt_tokens)
        return Hold(turn_id, owner, self.limits, tokens, cost, all(offer.priced for offer in self.offers.values()))

    def most(self, prompt_tokens: int, model: str = "") -> tuple[int, Decimal]:
        """The most tokens and USD that a turn can use with this model, or with the one that uses most."""
        most = [(min(prompt_tokens, offer.context), offer.max_tokens, offer) for offer in self._offers(model)]
        return max(prompt + reply for prompt, reply, _ in most), max(offer.cost(*used) for *used, offer in most)

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """What the usage costs with the model that answered."""
        return max(offer.cost(prompt_tokens, completion_tokens) for offer in self._offers(model))

    def _offers(self, model: str) -> Collection[Offer]:
        """The model's alone, or all where it has none."""
        known = self.offers.get(model)
        return self.offers.values() if known is None else (known,)


@dataclass(frozen=True, slots=True)
class Hold:
    """The most that a new turn can use; `priced`: whether its cost can be computed beforehand."""

    turn_id: str
    owner: str
    limits: Limits
    tokens: int
    cost: Decimal
    priced: bool = True


@dataclass(frozen=True, slots=True)
class Settlement:
    """The real usage of a turn that began with a hold. `None`: unknown, so the reserved amount counts."""

    turn_id: str
    tokens: int | None = None
    cost: Decimal | None = None


@dataclass(slots=True)
class Balance:
    """An owner's account in memory: used on `day` and in `month`, and held by running turns."""

    owner: str
    day: date
    tokens: int
    month: date
    cost: Decimal
    exhausted: str | None = None
    exhausted_until: datetime | None = None
    turns_running: int = 0
    tokens_held: int = 0
    cost_held: Decimal = Decimal(0)

    @property
    def row(self) -> tuple[Any, ...]:
        day, month = (connection.ops.adapt_datefield_value(value) for value in (self.day, self.month))
        return day, self.tokens, month, _to_column(self.cost), self.owner

    def roll_over(self, now: datetime) -> None:
        """Start a new day or month. Go back only from where no other machine's clock can be yet."""
        today, latest = now.date(), (now + SKEW).date()
        if not today <= self.day <= latest:
            self.day, self.tokens = today, 0
        if not today.replace(day=1) <= self.month <= latest:
            self.month, self.cost = today.replace(day=1), Decimal(0)

    def add(self, began_on: date, tokens: int, cost: Decimal) -> None:
        """Add the usage of a turn that has ended."""
        if began_on == self.day:
            self.tokens += tokens
        if began_on.replace(day=1) == self.month:
            self.cost += cost

    def set_running(self, turns: int, tokens: int, cost: Decimal) -> None:
        self.turns_running, self.tokens_held, self.cost_held = turns, tokens, cost

    def try_reserve(self, hold: Hold, now: datetime) -> LimitStatus | None:
        """Reserve the hold, or return the limit that refuses it."""
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
        # A cost that is not known beforehand can't be reserved: several turns at once could overspend.
        at_once = 1 if limits.cost_per_month and not hold.priced else limits.turns_in_flight
        if at_once and self.turns_running >= at_once:
            return LimitStatus("turns_in_flight", at_once, 0, RETRY_SECONDS, True)
        return None


def reserve(holds: Sequence[Hold]) -> list[LimitStatus | None]:
    """Reserve each hold, in order; return for each the limit that refuses it, or `None`.

    Call it in the transaction that begins the turns, once for each turn.
    """
    if not holds:
        return []
    balances = _lock(sorted({hold.owner for hold in holds}))
    now = timezone.now()  # after the wait for the lock, which may pass midnight
    for balance in balances.values():
        balance.roll_over(now)
    _settle_ended(balances, now)
    _count_running(balances)
    refusals = [balances[hold.owner].try_reserve(hold, now) for hold in holds]
    _note_exhausted(balances, dict(zip((hold.owner for hold in holds), refusals, strict=True)), now)
    _store_reservations([hold for hold, refusal in zip(holds, refusals, strict=True) if refusal is None], now)
    return refusals


def _lock(owners: Sequence[str]) -> dict[str, Balance]:
    """Lock the owners' accounts until the transaction ends; create missing ones.

    `owners` are sorted: one order everywhere prevents deadlocks.
    """
    today = timezone.now().date()
    day, month = (connection.ops.adapt_datefield_value(value) for value in (today, today.replace(day=1)))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {ACCOUNTS} (owner, day, tokens, month, cost) "
            f"VALUES {', '.join(['(%s, %s, 0, %s, 0)'] * len(owners))} "
            "ON CONFLICT (owner) DO UPDATE SET owner = excluded.owner "
            "RETURNING owner, day, tokens, month, cost, exhausted, exhausted_until",
            [value for owner in owners for value in (owner, day, month)],
        )
        return {
            owner: Balance(owner, day, tokens, month, _decimal(cost), exhausted, until and utc(until))
            for owner, day, tokens, month, cost, exhausted, until in cursor.fetchall()
        }


def _settle_ended(balances: dict[str, Balance], now: datetime) -> None:
    """Add the usage of ended turns to the day and month in which they began."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {RESERVATIONS} WHERE owner IN ({_placeholders(balances)}) AND ended "
            "RETURNING owner, began_at, tokens, cost",
            list(balances),
        )
        ended = cursor.fetchall()
        for owner, began_at, tokens, cost in ended:
            began_at = utc(began_at) if utc(began_at) <= now + SKEW else now
            balances[owner].add(began_at.date(), tokens, _decimal(cost))
        cursor.executemany(
            f"UPDATE {ACCOUNTS} SET day = %s, tokens = %s, month = %s, cost = %s WHERE owner = %s",
            [balances[owner].row for owner in {owner for owner, *_ in ended}],
        )


def _note_exhausted(balances: dict[str, Balance], last: Mapping[str, LimitStatus | None], now: datetime) -> None:
    """Remember which budget refused an owner's last turn, until the next one begins or the budget is new."""
    rows: list[tuple[str | None, Any, str]] = []
    for owner, refusal in last.items():
        known = balances[owner]
        current = current_refusal(known, now)
        if refusal is None and known.exhausted:
            rows.append((None, None, owner))
        elif refusal and refusal.name in BUDGETS and refusal.reset > RETRY_SECONDS and refusal.name != current:
            until = connection.ops.adapt_datetimefield_value(now + timedelta(seconds=refusal.reset))
            rows.append((refusal.name, until, owner))
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(f"UPDATE {ACCOUNTS} SET exhausted = %s, exhausted_until = %s WHERE owner = %s", rows)


def _count_running(balances: dict[str, Balance]) -> None:
    """Add up what running turns hold. A turn that another process ends at this moment still counts."""
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
    """An amount from raw SQL: SQLite returns floats."""
    return Decimal(str(value)).quantize(COST_UNIT)


def settle(settlements: Sequence[Settlement]) -> None:
    """Record what turns used. The owner's next turn adds it to the account, so nothing waits for that row here."""
    if not settlements:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {RESERVATIONS} SET ended = %s, tokens = COALESCE(%s, tokens), cost = COALESCE(%s, cost) "
            "WHERE turn_id = %s",
            [(True, settlement.tokens, _to_column(settlement.cost), settlement.turn_id) for settlement in settlements],
        )


def charge(settlements: Sequence[tuple[str, Settlement]]) -> None:
    """Count usage that was not reserved before, once for each `turn_id`."""
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


def current_refusal(known: Account | Balance, now: datetime) -> str | None:
    """The budget that refused the owner's last turn, unless it is new since."""
    name, until, latest = known.exhausted, known.exhausted_until, now + SKEW
    seconds = _until_tomorrow(latest) if name == "tokens_per_day" else _until_next_month(latest)
    return name if until and lasts(until, now, timedelta(seconds=seconds)) else None


def _until_tomorrow(now: datetime) -> float:
    return (_midnight(now.date() + timedelta(days=1)) - now).total_seconds()


def _until_next_month(now: datetime) -> float:
    return (_midnight((now.date().replace(day=1) + timedelta(days=32)).replace(day=1)) - now).total_seconds()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def budget_used(owner: str, now: datetime) -> tuple[int, int, Decimal]:
    """Running turns, today's tokens, this month's cost. Includes ended turns that are not in the account yet."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = today.replace(day=1)
    account = Account.objects.filter(owner=owner).first()
    tokens = account.tokens if account and account.day == today.date() else 0
    cost = account.cost if account and account.month == month.date() else Decimal(0)
    waiting = Reservation.objects.filter(owner=owner).aggregate(
        running=Count("pk", filter=Q(ended=False)),
        tokens=Sum("tokens", filter=Q(ended=True, began_at__gte=today), default=0),
        cost=Sum("cost", filter=Q(ended=True, began_at__gte=month), default=Decimal(0)),
    )
    return waiting["running"], tokens + waiting["tokens"], cost + waiting["cost"]
