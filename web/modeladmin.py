"""What the admin's lists and pages share."""

import re
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import BadRequest
from django.core.paginator import Paginator
from django.db.models import DateTimeField, Q, QuerySet
from django.forms import SplitDateTimeField
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

MAX_COUNTED = 10_000  # rows of a list that are counted and have pages
MAX_SEARCH_CHARS = 200  # Django asks for each word in each field: a thousand words are more than SQLite takes
A_KEY = re.compile("[0-9]{1,18}")
PERIODS = {
    "1h": (timedelta(hours=1), _("Last hour")),
    "24h": (timedelta(hours=24), _("Last 24 hours")),
    "7d": (timedelta(days=7), _("Last 7 days")),
    "30d": (timedelta(days=30), _("Last 30 days")),
}


class OfferedFilters(ChangeList):
    """A list that filters by what its filters offer, and by nothing else.

    Django's own takes any lookup of any field from the address: a slow pattern, or text that no audit log would show.
    """

    def get_filters(self, request: HttpRequest) -> Any:
        """Raises `DisallowedModelAdminLookup`, which is answered with 400."""
        found = super().get_filters(request)
        _filters, _has_filters, not_offered, *_ = found
        if not_offered:
            raise DisallowedModelAdminLookup("The address names a filter that the list does not offer.")
        return found


class NamedHalves(AdminSplitDateTime):
    """Django's two fields for a moment, with names that screen readers say; Django's own are texts beside them."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        halves = zip(context["widget"]["subwidgets"], (context["date_label"], context["time_label"]), strict=True)
        for half, label in halves:
            half["attrs"]["aria-label"] = label.rstrip(":")
        return context


class Listed(admin.ModelAdmin):
    """What every model's admin has: a list that is an `OfferedFilters`, and fields that have names."""

    changelist: type[OfferedFilters] = OfferedFilters
    formfield_overrides = {DateTimeField: {"form_class": SplitDateTimeField, "widget": NamedHalves}}

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[OfferedFilters]:
        return self.changelist

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Nothing for a term that is longer than what a list searches in."""
        found: tuple[Any, bool] = super().get_search_results(request, queryset, search_term[:MAX_SEARCH_CHARS])
        return (found[0].none(), False) if len(search_term) > MAX_SEARCH_CHARS else found

    def response_action(self, request: HttpRequest, queryset: Any, *args: Any, **more: Any) -> HttpResponse | None:
        """Raises `BadRequest` where a selected row is none that the list shows."""
        if not all(A_KEY.fullmatch(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise BadRequest
        return super().response_action(request, queryset, *args, **more)


class BoundedPaginator(Paginator):
    """Counts at most `MAX_COUNTED` rows."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.values("pk")[:MAX_COUNTED].count())


class PeriodFilter(admin.SimpleListFilter):
    """Rows whose `moment` lies in the last hours or days."""

    moment: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, label) for value, (_length, label) in PERIODS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() not in PERIODS:
            return queryset
        since = timezone.now() - PERIODS[str(self.value())][0]
        return queryset.filter(**{f"{self.moment}__gte": since})


class RuleFilter(admin.SimpleListFilter):
    """Offers `rules`: each has a label, and a condition for the rows."""

    rules: dict[str, tuple[Any, Q]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, label) for value, (label, _rule) in self.rules.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        chosen = self.value()
        return queryset.filter(self.rules[chosen][1]) if chosen in self.rules else queryset


class PageWithMore(Listed):
    """A record's page whose template shows more than the record's fields."""

    def more(self, request: HttpRequest, record: Any) -> dict[str, Any]:
        """More for the template's context. `record` is None while somebody adds one."""
        raise NotImplementedError

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        context.update(self.more(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)
