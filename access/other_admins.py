"""The audit log in the admin; and the admin's own users and groups, whose changes it tells of."""

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from access import audit
from access.models import AuditEntry
from bancobot_project.admin_lists import BoundedPaginator, PeriodFilter

ACTOR_KINDS = ("staff", "client", "byok")
ACTORS = ("open", "command", audit.SYSTEM)


def search(entries: QuerySet[AuditEntry], text: str) -> QuerySet[AuditEntry]:
    """Those of exactly that target; else those whose actor, or target, begins so. An index answers each of them."""
    of_target = entries.filter(target=text, target__gt="")  # as the index says
    if of_target.exists():
        return of_target
    kind, colon, _rest = text.partition(":")
    if text in ACTORS or (colon and kind in ACTOR_KINDS):
        return beginning(entries, "actor", text)
    return beginning(entries.filter(target__gt=""), "target", text)


def beginning(entries: QuerySet[AuditEntry], field: str, text: str) -> QuerySet[AuditEntry]:
    if connection.vendor == "postgresql":
        return entries.filter(**{f"{field}__startswith": text})
    # SQLite takes no index for LIKE, and compares texts byte by byte.
    return entries.filter(**{f"{field}__gte": text, f"{field}__lt": f"{text}\U0010ffff"})


class WhenFilter(PeriodFilter):
    title = _("when")
    parameter_name = "period"
    moment = "at"


class AuditAdmin(admin.ModelAdmin):
    """To be read and searched, by nobody to be changed."""

    list_display = ["when", "actor", "action", "target", "owner", "address"]
    list_filter = [WhenFilter, "action"]
    sortable_by = ()  # one order, which the indexes give
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
        return f"{localtime(entry.at):%Y-%m-%d %H:%M:%S %Z}"  # to the second, and the same in every language

    @admin.display(description=_("details"))
    def details_text(self, entry: AuditEntry) -> str:
        return json.dumps(entry.details, ensure_ascii=False, indent=2) if entry.details else ""


# Users and groups: what the admin's own log says in the language of forms, with the rights as they are afterwards


def permissions_of(holder: User | Group) -> list[str]:
    own = holder.user_permissions if isinstance(holder, User) else holder.permissions
    return sorted(f"{one.content_type.app_label}.{one.codename}" for one in own.select_related("content_type"))


def rights_of(holder: User | Group) -> dict[str, Any]:
    if isinstance(holder, Group):
        return {"permissions": permissions_of(holder)}
    flags = {"active": holder.is_active, "staff": holder.is_staff, "superuser": holder.is_superuser}
    groups = sorted(holder.groups.values_list("name", flat=True))
    return {**flags, "groups": groups, "permissions": permissions_of(holder)}


class Audited:
    """Tells the audit log what Django's admin tells its own."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        tell_of(request, "added", obj, rights=rights_of(obj))
        return super().log_addition(request, obj, message)  # type: ignore[misc]  # a ModelAdmin's

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        changed = message[0].get("changed", {}) if message and isinstance(message, list) else {}
        tell_of(request, "changed", obj, fields=changed.get("fields", []), rights=rights_of(obj))
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> Any:
        for obj in queryset:
            tell_of(request, "deleted", obj)
        return super().log_deletions(request, queryset)  # type: ignore[misc]


def tell_of(request: HttpRequest, done: str, obj: User | Group, **more: Any) -> None:
    user = isinstance(obj, User)
    action = audit.Action.USER_CHANGED if user else audit.Action.GROUP_CHANGED
    target = f"user:{obj}" if user else f"group:{obj}"
    audit.record(
        action, audit.staff(request), target=target[:160], address=audit.address_of(request), done=done, **more
    )


class AuditedUserAdmin(Audited, UserAdmin):
    pass


class AuditedGroupAdmin(Audited, GroupAdmin):
    pass
