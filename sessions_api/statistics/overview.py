"""What happened in a period: the tallies, and the turns that ended since the last count."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access.models import Client
from sessions_api.models import CountedUntil, Feedback, Session, SessionCost, Tally
from sessions_api.statistics.histograms import loaded, percentile
from sessions_api.statistics.tallies import (
    KINDS,
    NUMBERS,
    Sums,
    day_of,
    ended_turns,
    hour_of,
    read,
    sums_of,
    tallied,
)
from web.moments import EPOCH

MAX_LIVE = 20_000  # uncounted turns that a page adds up; further ones appear when they are counted
MAX_LINES = 10  # models, and clients, with a line of their own; one line has the others
MAX_SESSIONS = 10
MAX_COUNTED = 100_000  # sessions
ATTEMPTS = 3
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Dimension = Tally.Dimension
Stored = dict[str, int]  # a histogram in JSON


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` to `until`, in steps of an hour or a day."""

    name: str
    label: Any
    grain: str
    since: datetime
    until: datetime

    @property
    def step(self) -> timedelta:
        return HOUR if self.grain == Tally.Grain.HOUR else DAY

    @property
    def starts(self) -> list[datetime]:
        count = (self.until - self.since) // self.step
        return [self.since + self.step * number for number in range(count)]

    @property
    def ends_now(self) -> bool:
        return self.until > timezone.now()


def periods(now: datetime) -> dict[str, Period]:
    """The periods that the page offers. Hours and days are whole ones in UTC; the present one is the last."""
    hour, today = hour_of(now) + HOUR, day_of(now)
    by_hour, by_day = Tally.Grain.HOUR, Tally.Grain.DAY
    offered = [
        Period("24h", _("Last 24 hours"), by_hour, hour - DAY, hour),
        Period("yesterday", _("Yesterday"), by_hour, today - DAY, today),
        Period("7d", _("Last 7 days"), by_day, today - 6 * DAY, today + DAY),
        Period("30d", _("Last 30 days"), by_day, today - 29 * DAY, today + DAY),
    ]
    return {period.name: period for period in offered}


@dataclass(slots=True)
class Line:
    """A line of a table: a model, a client, an error or an hour, and its sums."""

    name: str
    label: Any = ""
    start: datetime | None = None
    sums: Sums = field(default_factory=Sums)

    @property
    def tokens(self) -> int:
        return self.sums.prompt_tokens + self.sums.completion_tokens

    @property
    def completed(self) -> int:
        return self.sums.turns - self.sums.failed - self.sums.cancelled

    @property
    def failed_percent(self) -> float | None:
        return 100 * self.sums.failed / self.sums.turns if self.sums.turns else None

    @property
    def first_token(self) -> tuple[float | None, float | None]:
        return percentile(self.sums.first_token, 0.5), percentile(self.sums.first_token, 0.95)

    @property
    def total(self) -> tuple[float | None, float | None]:
        return percentile(self.sums.total, 0.5), percentile(self.sums.total, 0.95)


@dataclass(slots=True)
class Overview:
    """`steps`: hours or days in their order. `counted_until`: set if later turns are missing."""

    period: Period
    whole: Line
    steps: list[Line]
    models: list[Line]
    clients: list[Line]
    errors: list[Line]
    counted_until: datetime | None


@dataclass(frozen=True, slots=True)
class DearSession:
    """A session, and the usage of its turns in the period."""

    session: Session
    turns: int
    tokens: int
    cost: Decimal


def overview(period: Period) -> Overview:
    """Read again if the tallies moved on meanwhile, else turns would count twice or not at all."""
    marks = counted_until()
    for _attempt in range(ATTEMPTS):
        found = _read(period, marks)
        before, marks = marks, counted_until()
        if marks == before:
            break
    return found


def counted_until() -> dict[str, datetime]:
    return dict.fromkeys(KINDS, EPOCH) | dict(CountedUntil.objects.values_list("kind", "moment"))


def _read(period: Period, marks: Mapping[str, datetime]) -> Overview:
    ended = read(not_counted(marks).filter(completed_at__gte=period.since, completed_at__lt=period.until)[:MAX_LIVE])
    live = tallied(ended, [period.grain])
    steps = {start: Line("", start=start) for start in period.starts}
    tables: dict[str, dict[str, Line]] = {Dimension.MODEL: {}, Dimension.CLIENT: {}, Dimension.ERROR: {}}
    stored = Tally.objects.filter(grain=period.grain, start__gte=period.since, start__lt=period.until)
    for tally in stored.filter(dimension=Dimension.ALL):
        steps[tally.start].sums.add(sums_of(tally))
    for dimension, name, *numbers in _added_up(stored):
        tables[dimension][name] = Line(name, sums=Sums(*numbers))
    for (_grain, start, dimension, name), sums in live.items():
        lines: Any = steps if dimension == Dimension.ALL else tables[dimension]
        lines.setdefault(start if dimension == Dimension.ALL else name, Line(name)).sums.add(sums)
    whole = Line("")
    for step in steps.values():
        whole.sums.add(step.sums)
    shown = {dimension: _most_used(lines.values()) for dimension, lines in tables.items()}
    _add_times(stored, shown)
    _name(shown)
    late = ended[-1].completed_at if len(ended) == MAX_LIVE else None
    models, clients, errors = (shown[dimension] for dimension in tables)
    return Overview(period, whole, list(steps.values()), models, clients, errors, late)


def not_counted(marks: Mapping[str, datetime]) -> QuerySet[Any]:
    """The replies of ended turns that are not in the tallies yet."""
    rule = Q()
    for kind, statuses in KINDS.items():
        rule |= Q(status__in=statuses, completed_at__gt=marks[kind])
    return ended_turns().filter(rule, completed_at__gt=min(marks.values()))


def _added_up(stored: QuerySet[Tally]) -> QuerySet[Any, Any]:
    """The numbers by dimension and name, without times: there may be thousands of clients."""
    apart = stored.exclude(dimension=Dimension.ALL).order_by().values("dimension", "name")
    sums = {f"{name}_sum": Sum(name) for name in NUMBERS}
    return apart.annotate(**sums).values_list("dimension", "name", *sums)


def _most_used(lines: Iterable[Line]) -> list[Line]:
    """The lines with most turns, and one line for all others."""
    lines = sorted(lines, key=lambda line: (-line.sums.turns, line.name))
    shown, others = lines[:MAX_LINES], lines[MAX_LINES:]
    if others:
        rest = Line("", label=_("others (%d)") % len(others))
        for line in others:
            rest.sums.add(line.sums)
        rest.sums.first_token.clear()  # they lack those of the tallies
        rest.sums.total.clear()
        shown.append(rest)
    return shown


def _add_times(stored: QuerySet[Tally], shown: Mapping[str, list[Line]]) -> None:
    """Add the times to the lines of models and clients."""
    lines = {(kind, line.name): line for kind in ("model", "client") for line in shown[kind] if not line.label}
    names = {name for _kind, name in lines}
    of_lines = stored.filter(dimension__in=[Dimension.MODEL, Dimension.CLIENT], name__in=names)
    times: dict[tuple[str, str], tuple[Stored, Stored]] = {place: ({}, {}) for place in lines}
    for kind, name, *both in of_lines.values_list("dimension", "name", "first_token", "total"):
        for merged, one in zip(times.get((kind, name), ()), both, strict=False):
            for bucket, count in one.items():  # runs a hundred thousand times for a page
                merged[bucket] = merged.get(bucket, 0) + count
    for place, (first_token, total) in times.items():
        lines[place].sums.first_token.update(loaded(first_token))
        lines[place].sums.total.update(loaded(total))


def _name(shown: Mapping[str, list[Line]]) -> None:
    """Give the lines labels for people."""
    labels = client_labels({line.name for line in shown[Dimension.CLIENT]})
    for line in shown[Dimension.CLIENT]:
        line.label = line.label or labels[line.name]
    for line in [*shown[Dimension.MODEL], *shown[Dimension.ERROR]]:
        line.label = line.label or line.name or _("unknown")


def client_labels(names: Collection[str]) -> dict[str, Any]:
    """The labels of clients as tallies name them (`client_of`), in one query."""
    ids = [name.removeprefix("client:") for name in names]
    known = dict(Client.objects.filter(client_id__in=ids).values_list("client_id", "name"))
    kinds = {"open": _("open access"), "byok": _("own provider keys")}
    return {name: kinds.get(name) or known.get(name.removeprefix("client:"), name) for name in names}


def active_sessions(period: Period) -> int | None:
    """The sessions with a question since the period began, up to MAX_COUNTED. `None` if the period is over."""
    if not period.ends_now:
        return None
    active = Session.objects.filter(last_activity_at__gte=period.since).order_by()
    return active.values("last_activity_at")[:MAX_COUNTED].count()


def ratings(period: Period) -> dict[str, int]:
    given = Feedback.objects.filter(created_at__gte=period.since, created_at__lt=period.until)
    counts = given.filter(rating__in=Feedback.Rating.values).order_by().values_list("rating").annotate(Count("rating"))
    return dict.fromkeys(Feedback.Rating.values, 0) | dict(counts)


def dearest_sessions(period: Period) -> list[DearSession]:
    """The sessions whose turns in the period cost most; without prices, those with most tokens.

    They are as of the last count, at most some minutes ago.
    """
    within = SessionCost.objects.filter(start__gte=period.since, start__lt=period.until).order_by()
    sums = within.values("session").annotate(all_turns=Sum("turns"), all_tokens=Sum("tokens"), all_cost=Sum("cost"))
    rows = list(sums.order_by("-all_cost", "-all_tokens", "session")[:MAX_SESSIONS])
    sessions = Session.objects.defer("system_prompt", "metadata").in_bulk([row["session"] for row in rows])
    return [
        DearSession(sessions[row["session"]], row["all_turns"], row["all_tokens"], row["all_cost"])
        for row in rows
        if row["session"] in sessions  # else it was erased just now
    ]
