"""Filters, search, totals and pages for the admin's list of sessions. They stay cheap with millions of rows."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from access import audit
from sessions_api.models import Feedback, Message, Session
from sessions_api.search import matching, query_of
from sessions_api.search_hits import newest_in
from web import modeladmin

MAX_COUNTED = modeladmin.MAX_COUNTED  # sessions of a list that are counted, added up and have pages
RECENT, MAX_MODELS = 1_000, 20  # filters offer the models that the most recent sessions use most

OWNER_KINDS = {"open": _("open access"), "byok": _("own provider key"), "client": _("client")}
BROKEN = [Message.Status.FAILED, Message.Status.INTERRUPTED]
TOTALS = {
    "messages": Sum("message_count", default=0),
    "prompt_tokens": Sum("prompt_tokens", default=0),
    "completion_tokens": Sum("completion_tokens", default=0),
    "cost": Sum("cost", default=0),
}


def newest_message() -> QuerySet[Message]:
    """The last message of an outer query's session, by its key."""
    return Message.objects.filter(session=OuterRef("pk"), position=OuterRef("message_count") - 1).order_by()


def search(sessions: QuerySet[Session], text: str) -> QuerySet[Session]:
    """The session with that id. Else: the id begins with the text, or title or messages have its words."""
    by_id = sessions.filter(session_id=text)
    if by_id.exists():
        return by_id
    said = matching(sessions, None, text).order_by().values("pk")
    return sessions.filter(Q(session_id__startswith=text) | Q(pk__in=said))


def audit_sessions(request: HttpRequest, action: str, sessions: Iterable[Session], **details: Any) -> None:
    """Write to the audit log what an operator does with each of the sessions."""
    targets = [(session.session_id, session.owner) for session in sessions]
    audit.record_all(action, audit.staff(request), targets, address=audit.address_of(request), **details)


class SessionList(modeladmin.OfferedFilters):
    """A page of sessions, each with the status of its newest message. A search leads to the messages that it found."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Session]:
        sessions: QuerySet[Session] = super().get_queryset(request, exclude_parameters)
        status = Subquery(newest_message().values("status"))
        return sessions.defer("system_prompt", "metadata").annotate(newest_status=status)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        text = self.query.strip()
        self.hits = newest_in(list(self.result_list), query_of(None, text)) if text else {}

    def url_for_result(self, result: Any) -> str:
        """The session's page, at the newest message with the words."""
        url, hit = str(super().url_for_result(result)), self.hits.get(result.pk)
        return f"{url}?message={hit.position}#message-{hit.position}" if hit else url


class BoundedPaginator(modeladmin.BoundedPaginator):
    """The query that counts also adds up."""

    @cached_property
    def totals(self) -> dict[str, Any]:
        """`sessions`, what TOTALS names, and whether there may be `more` sessions than these newest ones."""
        fields = ("pk", "message_count", "prompt_tokens", "completion_tokens", "cost")
        sessions: Any = self.object_list
        newest = sessions.values(*fields)[:MAX_COUNTED]
        totals: dict[str, Any] = newest.aggregate(sessions=Count("pk"), **TOTALS)
        return {**totals, "more": totals["sessions"] == MAX_COUNTED}

    @cached_property
    def count(self) -> int:
        return int(self.totals["sessions"])


class ActivityFilter(modeladmin.PeriodFilter):
    """Yesterday is in UTC, as in the overview."""

    title = _("last activity")
    parameter_name = "active"
    moment = "last_activity_at"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*super().lookups(request, model_admin), ("yesterday", _("Yesterday"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() != "yesterday":
            return super().queryset(request, queryset)
        today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
        return queryset.filter(last_activity_at__gte=today - timedelta(days=1), last_activity_at__lt=today)


class ModelFilter(admin.SimpleListFilter):
    title = _("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        recent = Session.objects.order_by("-last_activity_at", "-pk").values_list("model", flat=True)[:RECENT]
        names = {name for name, _uses in Counter(recent).most_common(MAX_MODELS)}
        chosen = self.value()
        names |= set() if chosen is None else {chosen}
        return [(name, name or _("server's default")) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        return queryset if self.value() is None else queryset.filter(model=self.value())


class OwnerFilter(modeladmin.RuleFilter):
    title = _("owner")
    parameter_name = "kind"
    rules = {kind: (label, Q(owner=kind) | Q(owner__startswith=f"{kind}:")) for kind, label in OWNER_KINDS.items()}


class ReplyFilter(modeladmin.RuleFilter):
    title = _("replies")
    parameter_name = "replies"
    running = Message.objects.filter(status=Message.Status.PENDING).order_by().values("session")
    broken = Message.objects.filter(session=OuterRef("pk"), status__in=BROKEN)
    rules = {
        "running": (_("Being written now"), Q(pk__in=running)),
        "complete": (
            _("The last one is complete"),
            Q(Exists(newest_message().filter(status=Message.Status.COMPLETED))),
        ),
        "broken": (
            _("The last one failed or was interrupted"),
            Q(Exists(newest_message().filter(status__in=BROKEN))),
        ),
        "some-broken": (_("Any failed or was interrupted"), Q(Exists(broken))),
    }


def rated(rating: str) -> Q:
    return Q(pk__in=Feedback.objects.filter(rating=rating).order_by().values("session"))


class FeedbackFilter(modeladmin.RuleFilter):
    title = _("feedback")
    parameter_name = "feedback"
    rules = {"down": (_("Any reply found bad"), rated("down")), "up": (_("Any reply found good"), rated("up"))}


class ClosedFilter(modeladmin.RuleFilter):
    title = _("state")
    parameter_name = "state"
    rules = {"open": (_("Open"), Q(closed_at=None)), "closed": (_("Closed"), Q(closed_at__isnull=False))}
