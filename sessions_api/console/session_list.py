"""What the admin's list of sessions needs: filters, search, totals and pages that stay cheap with millions of rows."""

from collections import Counter
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from sessions_api.models import Feedback, Message, Session
from sessions_api.search import matching
from web import modeladmin

MAX_COUNTED = modeladmin.MAX_COUNTED  # sessions of a list that are counted, added up and can be paged through
RECENT, MAX_MODELS = 1_000, 20  # the models offered as filters are those most used in so many recent sessions

OWNER_KINDS = {"open": _("open access"), "byok": _("own provider key"), "client": _("client")}
BROKEN = [Message.Status.FAILED, Message.Status.INTERRUPTED]
TOTALS = {
    "messages": Sum("message_count", default=0),
    "prompt_tokens": Sum("prompt_tokens", default=0),
    "completion_tokens": Sum("completion_tokens", default=0),
    "cost": Sum("cost", default=0),
}


def newest_message() -> QuerySet[Message]:
    """The last message of the session of an outer query, by its key."""
    return Message.objects.filter(session=OuterRef("pk"), position=OuterRef("message_count") - 1).order_by()


def search(sessions: QuerySet[Session], text: str) -> QuerySet[Session]:
    """The session with that id; else those whose id begins with the text, or whose title or messages have its words."""
    by_id = sessions.filter(session_id=text)
    if by_id.exists():
        return by_id
    said = matching(sessions, None, text).order_by().values("pk")
    return sessions.filter(Q(session_id__startswith=text) | Q(pk__in=said))


class SessionList(ChangeList):
    """A page of sessions, each with the status of its newest message."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Session]:
        sessions: QuerySet[Session] = super().get_queryset(request, exclude_parameters)
        status = Subquery(newest_message().values("status"))
        return sessions.defer("system_prompt", "metadata").annotate(newest_status=status)


class BoundedPaginator(modeladmin.BoundedPaginator):
    """Also adds up, with the same query."""

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
    """Yesterday is UTC's, as in the overview."""

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


class OwnerFilter(admin.SimpleListFilter):
    title = _("owner")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(OWNER_KINDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        kind = self.value()
        if kind not in OWNER_KINDS:
            return queryset
        return queryset.filter(Q(owner=kind) | Q(owner__startswith=f"{kind}:"))


class ReplyFilter(admin.SimpleListFilter):
    title = _("replies")
    parameter_name = "replies"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("running", _("Being written now")),
            ("complete", _("The last one is complete")),
            ("broken", _("The last one failed or was interrupted")),
            ("some-broken", _("Any failed or was interrupted")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        running = Message.objects.filter(status=Message.Status.PENDING).order_by()
        broken = Message.objects.filter(session=OuterRef("pk"), status__in=BROKEN)
        rules = {
            "running": Q(pk__in=running.values("session")),
            "complete": Q(Exists(newest_message().filter(status=Message.Status.COMPLETED))),
            "broken": Q(Exists(newest_message().filter(status__in=BROKEN))),
            "some-broken": Q(Exists(broken)),
        }
        return queryset.filter(rules.get(self.value() or "", Q()))


class FeedbackFilter(admin.SimpleListFilter):
    title = _("feedback")
    parameter_name = "feedback"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("down", _("Any reply found bad")), ("up", _("Any reply found good"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        if self.value() not in Feedback.Rating.values:
            return queryset
        rated = Feedback.objects.filter(rating=self.value()).order_by()
        return queryset.filter(pk__in=rated.values("session"))


class ClosedFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", _("Open")), ("closed", _("Closed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        if self.value() not in ("open", "closed"):
            return queryset
        return queryset.filter(closed_at__isnull=self.value() == "open")
