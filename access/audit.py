"""The audit log: who did what, from where and when. Never what anybody wrote."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.request import Request

from access.models import AuditEntry
from web.logs import request_id

BATCH = 1000  # entries that are purged at once
SYSTEM = "system"
Action = AuditEntry.Action


def record(
    action: str, actor: str, *, target: str = "", owner: str = "", address: str = "", **details: Any
) -> AuditEntry:
    """One entry, in the transaction that is open. `details` are JSON: names and counts."""
    entry = _entry(action, actor, target, owner, address, details)
    entry.save(force_insert=True)
    return entry


def record_all(
    action: str, actor: str, targets: Iterable[tuple[str, str]], *, address: str = "", **details: Any
) -> list[AuditEntry]:
    """An entry for each (target, its owner)."""
    return AuditEntry.objects.bulk_create(
        _entry(action, actor, target, owner, address, details) for target, owner in targets
    )


def _entry(action: str, actor: str, target: str, owner: str, address: str, details: dict[str, Any]) -> AuditEntry:
    return AuditEntry(
        actor=actor,
        action=action,
        target=target[:160],
        owner=owner[:80],  # what somebody asks for may be longer than any owner's name
        address=address,
        request_id=request_id.get(),
        details=details,
    )


def address_of(request: HttpRequest | Request) -> str:
    """Where a request comes from, TRUSTED_PROXIES taken into account (bancobot_project/server/application.py)."""
    return str(request.META.get("REMOTE_ADDR") or "")[:45]


def staff(request: HttpRequest) -> str:
    """Who is logged in to the admin."""
    return f"staff:{request.user.get_username()}"[:160]


def purge() -> int:
    """Remove entries that are older than AUDIT_RETENTION_DAYS, a batch at a time. Answers how many."""
    oldest = timezone.now() - timedelta(days=settings.AUDIT_RETENTION_DAYS)
    removed = 0
    while count := AuditEntry.objects.purge(oldest, BATCH):
        removed += count
    return removed
