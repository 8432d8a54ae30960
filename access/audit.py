"""The audit log: who did what, when and from where. It never holds what anybody wrote."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.request import Request

from access.models import AuditEntry
from web.logs import request_id
from web.pace import Pace

SYSTEM = "system"
Action = AuditEntry.Action


def record(
    action: str, actor: str, *, target: str = "", owner: str = "", address: str = "", **details: Any
) -> AuditEntry:
    """Add one entry, in the open transaction. `details` are JSON: names and counts."""
    entry = _entry(action, actor, target, owner, address, details)
    entry.save(force_insert=True)
    return entry


def record_all(
    action: str, actor: str, targets: Iterable[tuple[str, str]], *, address: str = "", **details: Any
) -> list[AuditEntry]:
    """Add an entry for each pair of target and owner."""
    return AuditEntry.objects.bulk_create(
        _entry(action, actor, target, owner, address, details) for target, owner in targets
    )


def _entry(action: str, actor: str, target: str, owner: str, address: str, details: dict[str, Any]) -> AuditEntry:
    return AuditEntry(
        actor=actor,
        action=action,
        target=target[:160],
        owner=owner[:80],  # a requested name may be longer than any owner's
        address=address,
        request_id=request_id.get(),
        details=details,
    )


def address_of(request: HttpRequest | Request) -> str:
    """The client's address; bancobot_project/server/application.py has applied TRUSTED_PROXIES."""
    return str(request.META.get("REMOTE_ADDR") or "")[:45]


def staff(request: HttpRequest) -> str:
    """The operator who is logged in to the admin."""
    return f"staff:{request.user.get_username()}"[:160]


def purge() -> int:
    """Delete entries older than AUDIT_RETENTION_DAYS, a batch at a time. Return how many."""
    oldest = timezone.now() - timedelta(days=settings.AUDIT_RETENTION_DAYS)
    removed, pace, count = 0, Pace(), 1
    while count:
        with pace.batch() as rows:
            count = AuditEntry.objects.purge(oldest, rows)
        removed += count
        pace.rest()
    return removed
