"""The admin's users and groups. The audit log records each change, with the rights after it."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

from access import audit
from access.admin_site import site
from web.modeladmin import Listed


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
    """Records in the audit log what Django's admin records in its own log."""

    class Media:
        js = ["access/selectors.js"]

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audit_change(request, "added", obj, rights=rights_of(obj))
        return super().log_addition(request, obj, message)  # type: ignore[misc]  # a ModelAdmin's

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        changed = message[0].get("changed", {}) if message and isinstance(message, list) else {}
        audit_change(request, "changed", obj, fields=changed.get("fields", []), rights=rights_of(obj))
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> Any:
        for obj in queryset:
            audit_change(request, "deleted", obj)
        return super().log_deletions(request, queryset)  # type: ignore[misc]


def audit_change(request: HttpRequest, done: str, obj: User | Group, **more: Any) -> None:
    user = isinstance(obj, User)
    action = audit.Action.USER_CHANGED if user else audit.Action.GROUP_CHANGED
    target = f"user:{obj}" if user else f"group:{obj}"
    audit.record(
        action, audit.staff(request), target=target[:160], address=audit.address_of(request), done=done, **more
    )


@admin.register(User, site=site)
class AuditedUserAdmin(Audited, UserAdmin, Listed):
    pass


@admin.register(Group, site=site)
class AuditedGroupAdmin(Audited, GroupAdmin, Listed):
    pass
