"""The audit log in the admin: read, search and filter."""

import json
from typing import Any

from django.contrib import admin
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from access import audit
from access.admin_site import site
from access.models import AuditEntry
from web.modeladmin import BoundedPaginator, Listed, PeriodFilter

ACTOR_KINDS = ("staff", "client", "byok")
ACTORS = ("open", "command", audit.SYSTEM)


def search(entries: QuerySet[AuditEntry], text: str) -> QuerySet[AuditEntry]:
    """Entries with exactly that target; otherwise those whose actor or target begins so. All use an index."""
    of_target = entries.filter(target=text, target__gt="")  # the condition of the partial index
    if of_target.exists():
        return of_target
    kind, colon, _rest = text.partition(":")
    if text in ACTORS or (colon and kind in ACTOR_KINDS):
        return beginning(entries, "actor", text)
    return beginning(entries.filter(target__gt=""), "target", text)


def beginning(entries: QuerySet[AuditEntry], field: str, text: str) -> QuerySet[AuditEntry]:
    if connection.vendor == "postgresql":
        return entries.filter(**{f"{field}__startswith": text})
    # SQLite uses no index for LIKE, and compares texts byte by byte.
    return entries.filter(**{f"{field}__gte": text, f"{field}__lt": f"{text}\U0010ffff"})


class WhenFilter(PeriodFilter):
    title = _("when")
    parameter_name = "period"
    moment = "at"


@admin.register(AuditEntry, site=site)
class AuditAdmin(Listed):
    """Read and search only: nobody can change entries."""

    list_display = ["when", "actor", "action", "target", "owner", "address"]
    list_filter = [WhenFilter, "action"]
    sortable_by = ()  # the indexes support one order only
    search_fields = ["target"]  # shows the box; `search` answers it
    search_help_text = _(
        "Which session, key or client (or how its name begins), or who: staff:…, client:…, byok:…, open, command"
    )
    list_per_page = list_max_show_all = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    fields = ["when", "actor", "action", "target", "owner", "address", "request_id", "details_text"]
    readonly_fields = ["when", "details_text"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry], search_term: str
    ) -> tuple[QuerySet[AuditEntry], bool]:
        text = search_term.strip()
        return (search(queryset, text) if text else queryset), False

    @admin.display(description=_("when"))
    def when(self, entry: AuditEntry) -> str:
        return f"{localtime(entry.at):%Y-%m-%d %H:%M:%S %Z}"  # with seconds, and the same in every language

    @admin.display(description=_("details"))
    def details_text(self, entry: AuditEntry) -> str:
        return json.dumps(entry.details, ensure_ascii=False, indent=2) if entry.details else ""
