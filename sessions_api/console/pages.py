"""The operator's pages in the admin: the overview and the running turns. sessions_api/admin.py gives them addresses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache

from access.admin_site import site
from sessions_api.console import charts, running
from sessions_api.console.charts import Chart, Series
from sessions_api.console.facts import facts
from sessions_api.console.formatting import NONE, age, compact, dollars, duration, durations, money, percent, whole
from sessions_api.models import Message, Tally
from sessions_api.statistics.overview import (
    DearSession,
    Line,
    Overview,
    Period,
    active_sessions,
    dearest_sessions,
    overview,
    periods,
    ratings,
)

USUAL_PERIOD = "24h"
SESSIONS = "admin:sessions_api_session_changelist"


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    more: str = ""
    link: str = ""


@dataclass(slots=True)
class Table:
    """`rows`: a heading, its link, and the cells."""

    title: str
    headings: Sequence[str]
    rows: list[tuple[Any, str, list[str]]] = field(default_factory=list)


def may_view(request: HttpRequest) -> bool:
    return any(request.user.has_perm(f"sessions_api.{verb}_session") for verb in ("view", "change"))


def may_cancel(request: HttpRequest) -> bool:
    return request.user.has_perm("sessions_api.change_session")


# The overview


@never_cache
def overview_page(request: HttpRequest) -> HttpResponse:
    if not may_view(request):
        raise PermissionDenied
    offered = periods(timezone.now())
    chosen = offered.get(request.GET.get("period", ""), offered[USUAL_PERIOD])
    seen = overview(chosen)
    names = step_names(chosen)
    context = {
        **site.each_context(request),
        "title": _("Overview"),
        "periods": list(offered.values()),
        "seen": seen,
        "tiles": tiles(seen),
        "charts": drawn(seen, names),
        "steps": table_of(_("By hour") if chosen.grain == Tally.Grain.HOUR else _("By day"), seen.steps, names),
        "tables": [table_of(_("By model"), seen.models), table_of(_("By client"), seen.clients)],
        "errors": errors_of(seen),
        "dearest": dearest_of(dearest_sessions(chosen)),
        "facts": facts(),
    }
    return TemplateResponse(request, "admin/console/overview.html", context)


def step_names(period: Period) -> list[str]:
    return [date_format(start, "H:i" if period.grain == Tally.Grain.HOUR else "j M") for start in period.starts]


def tiles(seen: Overview) -> list[Tile]:
    whole_of, sessions, rated = seen.whole, active_sessions(seen.period), ratings(seen.period)
    sums = whole_of.sums
    pending = Message.objects.filter(status=Message.Status.PENDING).order_by()
    now = pending.aggregate(turns=Count("turn_id"), processes=Count("runner", distinct=True))
    sessions_list = reverse(SESSIONS)
    return [
        Tile(_("Turns"), whole(sums.turns), _("%s completed") % whole(whole_of.completed)),
        Tile(
            _("Failed"),
            percent(whole_of.failed_percent),
            ngettext("%s turn", "%s turns", sums.failed) % whole(sums.failed),
        ),
        Tile(_("Active sessions"), NONE if sessions is None else whole(sessions), link=sessions_list),
        Tile(
            _("Tokens"),
            compact(whole_of.tokens),
            f"{compact(sums.prompt_tokens)} + {compact(sums.completion_tokens)}",
        ),
        Tile(_("Cost"), dollars(sums.cost)),
        Tile(_("First token"), durations(whole_of.first_token), "p50 / p95"),
        Tile(_("Complete reply"), durations(whole_of.total), "p50 / p95"),
        Tile(
            _("Feedback"),
            f"{whole(rated['up'])} / {whole(rated['down'])}",
            _("good / bad"),
            f"{sessions_list}?feedback=down",
        ),
        Tile(
            _("Running now"),
            whole(now["turns"]),
            ngettext("in %d process", "in %d processes", now["processes"]) % now["processes"] if now["turns"] else "",
            reverse("admin:running"),
        ),
    ]


def drawn(seen: Overview, names: Sequence[str]) -> list[Chart]:
    steps = seen.steps
    firsts, totals = [line.first_token for line in steps], [line.total for line in steps]
    turns = [
        Series("completed", _("completed"), [line.completed for line in steps]),
        Series("cancelled", _("cancelled"), [line.sums.cancelled for line in steps]),
        Series("failed", _("failed"), [line.sums.failed for line in steps]),
    ]
    cost = [Series("completed", _("cost"), [float(line.sums.cost) for line in steps])]
    return [
        charts.bars(_("Turns"), names, turns, compact),
        charts.bars(_("Cost (USD)"), names, cost, compact),
        charts.lines(_("Time to the first token"), names, halves(firsts), duration),
        charts.lines(_("Time to the complete reply"), names, halves(totals), duration),
    ]


def halves(times: Iterable[tuple[float | None, float | None]]) -> list[Series]:
    half, nearly_all = zip(*times, strict=True)
    return [Series("half", "p50", half), Series("most", "p95", nearly_all)]


def table_of(title: str, lines: Sequence[Line], names: Sequence[str] = ()) -> Table:
    headings = [
        _("turns"), _("failed"), _("cancelled"), _("prompt tokens"), _("completion tokens"), _("cost (USD)"),
        _("first token, p50 / p95"), _("complete reply, p50 / p95"),
    ]  # fmt: skip
    return Table(
        title,
        headings,
        [(name or line.label, "", cells(line)) for line, name in zip(lines, names or [""] * len(lines), strict=True)],
    )


def cells(line: Line) -> list[str]:
    sums = line.sums
    return [
        whole(sums.turns),
        percent(line.failed_percent),
        whole(sums.cancelled),
        whole(sums.prompt_tokens),
        whole(sums.completion_tokens),
        money(sums.cost),
        durations(line.first_token),
        durations(line.total),
    ]


def errors_of(seen: Overview) -> Table:
    """How many of the period's turns ended with each code."""
    turns = seen.whole.sums.turns
    rows = [(line.label, "", [whole(line.sums.turns), percent(100 * line.sums.turns / turns)]) for line in seen.errors]
    return Table(_("Errors by code"), [_("turns"), _("of all turns")], rows)


def dearest_of(sessions: Iterable[DearSession]) -> Table:
    headings = [_("cost (USD)"), _("tokens"), _("turns"), _("model"), _("last activity")]
    rows = [
        (
            str(one.session),
            reverse("admin:sessions_api_session_change", args=[one.session.pk]),
            [
                money(one.cost),
                whole(one.tokens),
                whole(one.turns),
                one.session.model,
                date_format(timezone.localtime(one.session.last_activity_at), "SHORT_DATETIME_FORMAT"),
            ],
        )
        for one in sessions
    ]
    return Table(_("Most expensive conversations"), headings, rows)


# The running turns


@never_cache
def running_page(request: HttpRequest) -> HttpResponse:
    """The whole page, or with `?part=table` the part that a script replaces every two seconds."""
    if not may_view(request):
        raise PermissionDenied
    turns = running.running_turns()
    context = {
        "turns": [(turn, age(turn.age), whole(turn.characters)) for turn in turns[: running.MAX_SHOWN]],
        "more": len(turns) > running.MAX_SHOWN,
        "may_cancel": may_cancel(request),
    }
    if request.GET.get("part") == "table":
        return TemplateResponse(request, "admin/console/running_table.html", context)
    context |= {**site.each_context(request), "title": _("Running turns")}
    return TemplateResponse(request, "admin/console/running.html", context)


def cancel_view(request: HttpRequest, turn_id: str) -> HttpResponse:
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not may_cancel(request):
        raise PermissionDenied
    if running.cancel(request, turn_id):
        messages.success(request, _("The turn is being stopped."))
    else:
        messages.info(request, _("The turn had ended already."))
    return HttpResponseRedirect(reverse("admin:running"))
