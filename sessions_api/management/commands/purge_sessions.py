"""manage.py purge_sessions: deletes expired conversations."""

import re
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, Sum

from access import audit
from access.clients import COMMAND
from sessions_api.retention.erasure import Removed, purge
from sessions_api.retention.expiry import drop_expired_keys, expired_sessions, retention

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """90m, 24h, 30d or 2w; raises `CommandError`."""
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text, re.ASCII)
    if not found:
        raise CommandError(f"--older-than takes a whole number and a unit, such as 90m, 24h, 30d or 2w, not {text!r}.")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def hours(length: timedelta) -> str:
    return f"{length / timedelta(hours=1):g}h"


class Command(BaseCommand):
    help = (
        "Deletes sessions that are idle for longer than SESSION_CLEANUP_HOURS (if that is set), or closed for longer "
        "than SESSION_CLOSED_RETENTION_HOURS, with their messages; and idempotency keys older than IDEMPOTENCY_HOURS. "
        "Sessions with a running turn are kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--older-than", metavar="TIME", help="idle for longer than this: 90m, 24h, 30d, 2w")
        parser.add_argument("--closed-only", action="store_true", help="only sessions that were closed (so long ago)")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    def handle(self, *args: Any, older_than: str | None, closed_only: bool, dry_run: bool, **options: Any) -> None:
        idle, closed = retention()
        if older_than is not None:
            idle = duration(older_than)
            closed = idle if closed_only else None
        rules = {"idle": None if closed_only else idle, "closed": closed}
        expired = expired_sessions(**rules)
        why = " or ".join(
            f"{state} for more than {older_than or hours(length)}"
            for state, length in rules.items()
            if length is not None
        )
        if dry_run:
            totals = expired.aggregate(sessions=Count("pk"), messages=Sum("message_count", default=0))
            self.stdout.write(f"Would purge {count(Removed(**totals))}, {why}.")
        else:
            drop_expired_keys()
            removed = purge(expired)
            if any(removed):
                audit.record(audit.Action.PURGED, COMMAND.name, **removed._asdict(), rule=why)
            self.stdout.write(f"Purged {count(removed)}, {why}.")


def count(removed: Removed) -> str:
    sessions, messages = removed
    return f"{sessions} session{'s' * (sessions != 1)} ({messages} message{'s' * (messages != 1)})"
