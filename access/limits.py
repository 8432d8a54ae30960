"""How much owners may use, exactly, for any number of workers: the database counts.

What is here takes lists and runs inside the transaction of whoever asks (sessions_api/writer.py). A turn is begun only
where what it may take at the most fits beside what has been used and what running turns may still take; when it ends,
what it really took is counted in the place of that.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.conf import settings
from django.db import connection
from django.db.models import Count, Q, Sum
from django.utils import timezone

from access.callers import Caller, Limits
from access.models import Account, RequestWindow, Reservation
from bancobot_project.errors import ApiError

MINUTE = timedelta(minutes=1)
WINDOWS = RequestWindow._meta.db_table
RESERVATIONS = Reservation._meta.db_table
LIMIT_HEADERS = "bancobot.limit_headers"  # where a request carries those of its answer
SOON = 1.0  # seconds; when it is worth asking again whether a running turn has ended


class Standing(NamedTuple):
    """How an owner stands to a limit. `reset`: seconds until it counts anew."""

    name: str
    limit: Decimal | int
    remaining: Decimal | int
    reset: float
    refused: bool = False
    wanted: Decimal | int = 1

    @property
    def headers(self) -> dict[str, str]:
        left = max(self.remaining, 0)
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(left if isinstance(left, int) else left.quantize(Decimal("0.000001"))),
            "RateLimit-Reset": str(math.ceil(self.reset)),
        }

    @property
    def error(self) -> ApiError:
        code = "budget_exhausted" if self.name in ("tokens_per_day", "cost_per_month") else "rate_limited"
        return ApiError(
            code,
            detail_code=self.name,
            retry_after=max(self.reset, 1),
            headers=self.headers,
            limit=self.name,
            wanted=float(self.wanted),
        )


# Requests per minute


class Counted(NamedTuple):
    """A request to be counted for `who` (an owner or an address), of which `limit` are allowed in a minute."""

    who: str
    limit: int


def counted_for(caller: Caller | None, address: str) -> list[Counted]:
    """What a request counts for: its address where it does not come with a client's good key, and its owner.

    In this order: what the address's limit keeps out shall not use up the owner's.
    """
    counted = []
    if (caller is None or caller.kind != "client") and settings.ADDRESS_REQUESTS_PER_MINUTE:
        counted.append(Counted(f"address:{network_of(address)}", settings.ADDRESS_REQUESTS_PER_MINUTE))
    if caller and caller.limits.requests_per_minute:
        counted.append(Counted(caller.owner, caller.limits.requests_per_minute))
    return counted


def network_of(address: str) -> str:
    """The address; of IPv6 the first half, since whoever has one address there has all of its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed  # as a socket for both kinds names IPv4's
    return str(parsed if parsed.version == 4 else ipaddress.ip_network((parsed, 64), strict=False))


def count_requests(requests: Sequence[Counted]) -> list[Standing]:
    """Count each request. In the order in which they come, those beyond the limit are refused.

    A minute begins with the first request, and the next one with the first request after its end.
    """
    now = timezone.now()
    times = Counter(request.who for request in requests)
    after = {who: _count(who, times[who], now) for who in sorted(times)}  # one order everywhere, or two could deadlock
    standings = []
    for request in requests:
        began_at, last = after[request.who]
        number = last - times[request.who] + 1  # of this request
        times[request.who] -= 1
        left = request.limit - number
        reset = min(began_at + MINUTE - now, MINUTE).total_seconds()  # another process may have begun it after `now`
        standings.append(Standing("requests_per_minute", request.limit, left, reset, left < 0))
    return standings


def _count(who: str, times: int, now: datetime) -> tuple[datetime, int]:
    """Add requests to the present minute of `who`; answers when it began, and its requests by now."""
    moment, ended = (connection.ops.adapt_datetimefield_value(value) for value in (now, now - MINUTE))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {WINDOWS} (counted, began_at, requests) VALUES (%s, %s, %s) "
            "ON CONFLICT (counted) DO UPDATE SET requests = excluded.requests + "
            f"CASE WHEN {WINDOWS}.began_at > %s THEN {WINDOWS}.requests ELSE 0 END, "
            f"began_at = CASE WHEN {WINDOWS}.began_at > %s THEN {WINDOWS}.began_at ELSE excluded.began_at END "
            "RETURNING began_at, requests",
            (who, moment, times, ended, ended),
        )
        began_at, requests = cursor.fetchone()
    return _utc(began_at), requests


def admit(caller: Caller | None, address: str) -> dict[str, str]:
    """Count a request outside of the writer; the answer's headers. Raises `ApiError` where it is one too many."""
    headers: dict[str, str] = {}
    for one in counted_for(caller, address):
        headers = headers_of(count_requests([one])[0])
    return headers


def headers_of(standing: Standing) -> dict[str, str]:
    """What an answer tells of a standing; raises `ApiError` where the limit has been passed."""
    if standing.refused:
        raise standing.error
    return standing.headers


# Turns: how many at once, tokens and cost


@dataclass(frozen=True, slots=True)
class Terms:
    """What is allowed to the owner of a turn, and what the turn may take at the most besides its prompt.

    Prices are USD for a token; `per_request` is USD. `context`: the most tokens that a prompt can have.
    """

    limits: Limits
    context: int
    max_tokens: int
    prompt_price: Decimal = Decimal(0)
    completion_price: Decimal = Decimal(0)
    per_request: Decimal = Decimal(0)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        return prompt_tokens * self.prompt_price + completion_tokens * self.completion_price + self.per_request


@dataclass(frozen=True, slots=True)
class Claim:
    """What a turn that wants to begin may take at the most."""

    turn_id: str
    owner: str
    limits: Limits
    tokens: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """What a turn took that had been begun with a claim."""

    turn_id: str
    tokens: int
    cost: Decimal


@dataclass(slots=True)
class Balance:
    """An owner's account while turns are being let in: used, and claimed by those that run."""

    account: Account
    turns: int = 0
    tokens: int = 0
    cost: Decimal = field(default_factory=Decimal)

    def turn_over(self, today: date) -> None:
        """Begin a new day, or a new month, in the account."""
        month = today.replace(day=1)
        if self.account.day != today:
            self.account.day, self.account.tokens = today, 0
        if self.account.month != month:
            self.account.month, self.account.cost = month, Decimal(0)

    def refusal(self, claim: Claim, now: datetime) -> Standing | None:
        """The limit that keeps the claim out."""
        limits = claim.limits
        tokens_left = limits.tokens_per_day - self.account.tokens - self.tokens
        cost_left = limits.cost_per_month - self.account.cost - self.cost
        if limits.tokens_per_day and claim.tokens > tokens_left:
            reset = SOON if self.tokens and claim.tokens <= tokens_left + self.tokens else _until_tomorrow(now)
            return Standing("tokens_per_day", limits.tokens_per_day, tokens_left, reset, True, claim.tokens)
        if limits.cost_per_month and (claim.cost > cost_left or cost_left <= 0):
            reset = SOON if self.cost and claim.cost < cost_left + self.cost else _until_next_month(now)
            return Standing("cost_per_month", limits.cost_per_month, cost_left, reset, True, claim.cost)
        if limits.turns_in_flight and self.turns >= limits.turns_in_flight:
            return Standing("turns_in_flight", limits.turns_in_flight, 0, SOON, True)
        return None

    def take(self, claim: Claim) -> None:
        self.turns += 1
        self.tokens += claim.tokens
        self.cost += claim.cost


def reserve(claims: Sequence[Claim]) -> list[Standing | None]:
    """Set aside what each turn may take, in their order; answers with the limit that keeps a turn out.

    To be run in the transaction that begins the turns. A turn that has been let in before is so again.
    """
    if not claims:
        return []
    balances = {account.owner: Balance(account) for account in _lock({claim.owner for claim in claims})}
    now = timezone.now()  # after waiting for the lock, which may have taken until the next day
    for balance in balances.values():
        balance.turn_over(now.date())
    _settle_ended(balances)
    known = _add_running(balances, {claim.turn_id for claim in claims})
    answers: list[Standing | None] = []
    taken: list[Reservation] = []
    for claim in claims:
        balance = balances[claim.owner]
        refusal = None if claim.turn_id in known else balance.refusal(claim, now)
        answers.append(refusal)
        if refusal is None and claim.turn_id not in known:
            balance.take(claim)
            taken.append(Reservation(claim.turn_id, claim.owner, now, claim.tokens, claim.cost))
    Reservation.objects.bulk_create(taken)
    return answers


def _lock(owners: set[str]) -> list[Account]:
    """The owners' accounts, which nobody else can use before the transaction's end."""
    mine = Account.objects.filter(owner__in=owners)
    if missing := sorted(owners - set(mine.values_list("owner", flat=True))):  # made before anything is locked
        today = timezone.now().date()
        new = [Account(owner=owner, day=today, month=today.replace(day=1)) for owner in missing]
        Account.objects.bulk_create(new, ignore_conflicts=True)
    return list(mine.order_by("owner").select_for_update())  # one order everywhere, or two could deadlock


def _settle_ended(balances: dict[str, Balance]) -> None:
    """Add what ended turns took to the accounts of the day and month in which they began."""
    ended = list(Reservation.objects.filter(owner__in=balances, ended=True))
    for turn in ended:
        account = balances[turn.owner].account
        if turn.began_at.date() == account.day:
            account.tokens += turn.tokens
        if turn.began_at.date().replace(day=1) == account.month:
            account.cost += turn.cost
    if ended:
        Reservation.objects.filter(turn_id__in=[turn.turn_id for turn in ended]).delete()
        accounts = [balances[owner].account for owner in {turn.owner for turn in ended}]
        Account.objects.bulk_update(accounts, ["day", "tokens", "month", "cost"])


def _add_running(balances: dict[str, Balance], turn_ids: set[str]) -> set[str]:
    """Count what running turns may still take; answers which of `turn_ids` are among them.

    One that another process ends at this very moment counts once more with what it had set aside, or took.
    """
    left = Reservation.objects.filter(owner__in=balances)
    running = Count("turn_id", filter=Q(ended=False))
    sums = left.order_by().values("owner").annotate(Sum("tokens"), Sum("cost"), running=running)
    for row in sums:
        balance = balances[row["owner"]]
        balance.turns, balance.tokens, balance.cost = row["running"], row["tokens__sum"], row["cost__sum"]
    return set(left.filter(turn_id__in=turn_ids).values_list("turn_id", flat=True))


def settle(charges: Sequence[Charge]) -> None:
    """Record what turns took. It reaches the accounts when the owner's next turn asks; until then nobody need wait."""
    if not charges:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {RESERVATIONS} SET ended = %s, tokens = %s, cost = %s WHERE turn_id = %s",
            [
                (True, charge.tokens, connection.ops.adapt_decimalfield_value(charge.cost, 20, 12), charge.turn_id)
                for charge in charges
            ],
        )


def forget_old(now: datetime) -> None:
    """Delete what counts no more: minutes that are over, and accounts that were last used in an earlier month."""
    RequestWindow.objects.filter(began_at__lt=now - 2 * MINUTE).delete()
    idle = Account.objects.filter(month__lt=now.date().replace(day=1))
    idle.exclude(owner__in=Reservation.objects.values("owner")).delete()


def _until_tomorrow(now: datetime) -> float:
    return (_midnight(now.date() + timedelta(days=1)) - now).total_seconds()


def _until_next_month(now: datetime) -> float:
    return (_midnight((now.date().replace(day=1) + timedelta(days=32)).replace(day=1)) - now).total_seconds()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _utc(value: datetime) -> datetime:
    """A moment as raw SQL gives it: SQLite's driver knows no time zones, and what is stored is UTC."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)
