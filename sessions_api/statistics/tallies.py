"""Counts ended turns in the background, at no cost to the turns themselves.

Each step counts up to a moment, and stores that moment in the same transaction. So every turn counts once. The overview
reads what ended since from the messages, by an index (statistics/overview.py).
"""

import math
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, QuerySet
from django.utils import timezone

from sessions_api.models import CountedUntil, Message, SessionCost, Tally
from sessions_api.statistics.histograms import bucket_of, loaded, stored
from web.moments import EPOCH, SKEW
from web.pace import Pace

LATE = timedelta(minutes=2)  # an outage can delay the storing of an outcome by up to 35 s
HOURS_KEPT, DAYS_KEPT = timedelta(days=3), timedelta(days=400)
COSTS_KEPT = timedelta(days=32)
COSTS_PER_HOUR, ALL_COSTS_KEPT = 100, timedelta(days=2)  # older hours keep only the most expensive sessions
HOURS_AT_ONCE = 24
MAX_MODELS = 200  # named in an hour or a day, because clients choose the names

Status = Message.Status
FAILED = (Status.FAILED, Status.INTERRUPTED)
# A process may still finish a turn that another one cancelled or took for dead, and then replaces its outcome. Such
# turns count once no process can do that any more. A completed or failed turn does not change.
KINDS = {"final": (Status.COMPLETED, Status.FAILED), "changeable": (Status.CANCELLED, Status.INTERRUPTED)}

NUMBERS = ("turns", "failed", "cancelled", "prompt_tokens", "completion_tokens", "cost")
Key = tuple[str, datetime, str, str]  # grain, start, dimension, name


class Ended(NamedTuple):
    """What counts of a turn: fields of its reply and its session."""

    completed_at: datetime
    session_id: int
    owner: str
    model: str
    status: str
    error_code: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: Decimal | None
    first_token_ms: int | None
    latency_ms: int | None

    @property
    def error(self) -> str:
        return (self.error_code or self.status) if self.status in FAILED else ""


@dataclass(slots=True)
class Sums:
    """The sums of turns. The times are histograms; `total` has completed turns alone."""

    turns: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = field(default_factory=Decimal)
    first_token: Counter[int] = field(default_factory=Counter)
    total: Counter[int] = field(default_factory=Counter)

    def count(self, turn: Ended) -> None:
        self.turns += 1
        self.failed += turn.status in FAILED
        self.cancelled += turn.status == Status.CANCELLED
        self.prompt_tokens += turn.prompt_tokens or 0
        self.completion_tokens += turn.completion_tokens or 0
        self.cost += turn.cost or 0
        if turn.first_token_ms is not None:
            self.first_token[bucket_of(turn.first_token_ms)] += 1
        if turn.latency_ms is not None and turn.status == Status.COMPLETED:
            self.total[bucket_of(turn.latency_ms)] += 1

    def add(self, other: "Sums") -> None:
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_token.update(other.first_token)
        self.total.update(other.total)


def sums_of(tally: Tally) -> Sums:
    times: dict[str, Any] = {"first_token": loaded(tally.first_token), "total": loaded(tally.total)}
    return Sums(**times, **{name: getattr(tally, name) for name in NUMBERS})


def client_of(owner: str) -> str:
    """Whose turn it is in the tallies: a client's, or one name for all owners of another kind."""
    return owner if owner.startswith("client:") else owner.partition(":")[0]


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def ended_turns() -> QuerySet[Message]:
    """The replies of ended turns, in the order of their end. The index message_ended serves this."""
    return Message.objects.filter(runner__gt="", completed_at__isnull=False).order_by("completed_at")


def read(replies: QuerySet[Message]) -> list[Ended]:
    """What counts of these replies, in one query."""
    named = replies.annotate(owner=F("session__owner"))
    return [Ended(*row) for row in named.values_list(*Ended._fields)]


def tallied(turns: Iterable[Ended], grains: Iterable[str]) -> dict[Key, Sums]:
    """The turns as tallies. The first step adds up equal turns, the second adds those sums to each tally."""
    cells: dict[tuple[datetime, str, str, str], Sums] = {}
    for turn in turns:
        place = hour_of(turn.completed_at), turn.model, client_of(turn.owner), turn.error
        cells.setdefault(place, Sums()).count(turn)
    tallies: dict[Key, Sums] = {}
    for (hour, model, client, error), sums in cells.items():
        names = {"all": "", "model": model, "client": client} | ({"error": error} if error else {})
        for grain in grains:
            start = hour if grain == Tally.Grain.HOUR else day_of(hour)
            for dimension, name in names.items():
                tallies.setdefault((grain, start, dimension, name), Sums()).add(sums)
    return tallies


# Counting


def count_ended(seconds: float = math.inf) -> bool:
    """Bring the tallies up to date, within about this many seconds. Return whether they are.

    It leaves half of the time to others.
    """
    stop_at, pace = time.monotonic() + seconds, Pace()
    for kind in KINDS:
        while _count_some(kind, pace):
            if time.monotonic() >= stop_at:
                return False
            pace.rest()
    return True


def _count_some(kind: str, pace: Pace) -> bool:
    """Count the next turns of a kind, and more if they ended at the same moment. Return whether there may be more.

    Reading and adding up happen outside the transaction: nobody changes turns this long after their end.
    """
    since = _counted_until(kind)
    until = timezone.now() - too_new(kind)
    if not ended_turns().filter(completed_at__gt=since, completed_at__lte=until).exists():
        return False
    waiting = ended_turns().filter(completed_at__gt=since, completed_at__lte=until, status__in=KINDS[kind])
    last = waiting.values_list("completed_at", flat=True)[pace.rows - 1 : pace.rows].first()
    turns = read(waiting.filter(completed_at__lte=last) if last else waiting)
    tallies, costs = tallied(turns, Tally.Grain.values), _costs(turns)
    with pace.batch(), transaction.atomic():
        mine = CountedUntil.objects.filter(kind=kind, moment=since).update(moment=last or until)
        if mine:  # else another process has counted them
            _add_to_tallies(tallies)
            _add_to_costs(costs)
    return last is not None


def _counted_until(kind: str) -> datetime:
    """Up to when turns have been counted. Where a clock was ahead, counting goes on from now."""
    moment = CountedUntil.objects.get_or_create(kind=kind, defaults={"moment": EPOCH})[0].moment
    now = timezone.now()
    if moment > now + SKEW and CountedUntil.objects.filter(kind=kind, moment=moment).update(moment=now):
        return now
    return moment


def too_new(kind: str) -> timedelta:
    """How long after its end a turn of that kind may still change or arrive."""
    if kind == "final":
        return LATE
    return LATE + timedelta(seconds=settings.TURN_DEADLINE_SECONDS + settings.TURN_LEASE_SECONDS)


def _add_to_tallies(tallies: Mapping[Key, Sums]) -> None:
    starts, names = {key[1] for key in tallies}, {"", *(key[3] for key in tallies)}
    stored_so_far = Tally.objects.filter(grain__in=Tally.Grain.values, start__in=starts, name__in=names)
    known = {(tally.grain, tally.start, tally.dimension, tally.name): tally for tally in stored_so_far}
    tallies = _of_few_models(tallies, known)
    for key, sums in tallies.items():
        if tally := known.get(key):
            sums.add(sums_of(tally))
    rows = [
        Tally(
            grain=grain,
            start=start,
            dimension=dimension,
            name=name,
            first_token=stored(sums.first_token),
            total=stored(sums.total),
            **{number: getattr(sums, number) for number in NUMBERS},
        )
        for (grain, start, dimension, name), sums in tallies.items()
    ]
    unique = ["grain", "start", "dimension", "name"]
    Tally.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=unique, update_fields=[*NUMBERS, "first_token", "total"]
    )


def _of_few_models(tallies: Mapping[Key, Sums], known: Container[Key]) -> dict[Key, Sums]:
    """The tallies with at most MAX_MODELS model names in an hour or a day. Further models count under "".

    Names without a completed turn get at most half of the places, so that invented names cannot take all of them.
    """
    near = Tally.objects.filter(grain__in=Tally.Grain.values, start__in={key[1] for key in tallies})
    of_models = near.filter(dimension=Tally.Dimension.MODEL).exclude(name="").order_by()
    counts = of_models.values_list("grain", "start").annotate(Count("name"))
    named = Counter({(grain, start): count for grain, start, count in counts})
    kept: dict[Key, Sums] = {}
    for (grain, start, dimension, name), sums in tallies.items():
        key = grain, start, dimension, name
        if dimension == Tally.Dimension.MODEL and name and key not in known:
            answered = sums.turns > sums.failed + sums.cancelled
            if named[grain, start] < (MAX_MODELS if answered else MAX_MODELS // 2):
                named[grain, start] += 1
            else:
                key = grain, start, dimension, ""
        kept.setdefault(key, Sums()).add(sums)
    return kept


def _costs(turns: Iterable[Ended]) -> dict[tuple[int, datetime], SessionCost]:
    costs: dict[tuple[int, datetime], SessionCost] = {}
    for turn in turns:
        place = turn.session_id, hour_of(turn.completed_at)
        cost = costs.setdefault(place, SessionCost(session_id=place[0], start=place[1], turns=0, tokens=0, cost=0))
        _add_cost(cost, 1, (turn.prompt_tokens or 0) + (turn.completion_tokens or 0), turn.cost or Decimal())
    return costs


def _add_cost(cost: SessionCost, turns: int, tokens: int, amount: Decimal) -> None:
    cost.turns += turns
    cost.tokens += tokens
    cost.cost += amount


def _add_to_costs(costs: Mapping[tuple[int, datetime], SessionCost]) -> None:
    sessions, starts = {place[0] for place in costs}, {place[1] for place in costs}
    for known in SessionCost.objects.filter(session__in=sessions, start__in=starts):
        if cost := costs.get((known.session_id, known.start)):
            _add_cost(cost, known.turns, known.tokens, known.cost)
    SessionCost.objects.bulk_create(
        costs.values(),
        update_conflicts=True,
        unique_fields=["session", "start"],
        update_fields=["turns", "tokens", "cost"],
    )


# Keeping it small


def purge() -> None:
    """Remove what the overview does not show any more."""
    now = timezone.now()
    Tally.objects.filter(grain=Tally.Grain.HOUR, start__lt=now - HOURS_KEPT).delete()
    Tally.objects.filter(grain=Tally.Grain.DAY, start__lt=now - DAYS_KEPT).delete()
    SessionCost.objects.filter(start__lt=now - COSTS_KEPT).delete()
    old = SessionCost.objects.filter(start__lt=now - ALL_COSTS_KEPT).values("start").order_by("start")
    crowded = old.annotate(sessions=Count("start")).filter(sessions__gt=COSTS_PER_HOUR)
    for start in list(crowded.values_list("start", flat=True)[:HOURS_AT_ONCE]):
        of_hour = SessionCost.objects.filter(start=start)
        dearest = of_hour.order_by("-cost", "-tokens").values_list("session", flat=True)[:COSTS_PER_HOUR]
        of_hour.exclude(session__in=list(dearest)).delete()
