"""What an owner has stored, beside its limits: a row that each of its writes locks, and the changes that wait for it.

So sessions and texts that callers send are counted exactly, by any number of workers. What must not wait for the row
(the end of a turn, an erasure) leaves a change, which the owner's next write adds. Owners without such a limit have no
row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from access.callers import OPEN_OWNER, Limits
from access.limits import LimitStatus
from access.models import Client, Stored, StoredChange
from web.moments import SKEW, utc

TOTALS = Stored._meta.db_table
CHANGES = StoredChange._meta.db_table
MB = 1_000_000  # bytes
RIGHT_FOR = timedelta(days=1)  # after which a count is made again, whatever has been noted
COUNTED_FOR = timedelta(seconds=10)  # before a refusal has the record counted again


class Growth(NamedTuple):
    """What a write adds."""

    sessions: int
    size: int


@dataclass(slots=True)
class Total:
    """An owner's row in memory. `counted_at`: when the record was counted; empty: it is to be counted soon."""

    owner: str
    sessions: int
    size: int
    counted_at: datetime | None

    def add(self, sessions: int, size: int) -> None:
        self.sessions += sessions
        self.size += size

    def try_add(self, growth: Growth, limits: Limits) -> LimitStatus | None:
        """Add it, or return the limit that refuses it."""
        refusal = self._exceeded_limit(growth, limits)
        if refusal is None:
            self.add(*growth)
        elif self.counted_at and abs(timezone.now() - self.counted_at) > COUNTED_FOR:
            self.counted_at = None
        return refusal

    def _exceeded_limit(self, growth: Growth, limits: Limits) -> LimitStatus | None:
        if limits.sessions and growth.sessions > 0 and self.sessions + growth.sessions > limits.sessions:
            return LimitStatus("sessions", limits.sessions, limits.sessions - self.sessions, 0, True)
        left = limits.stored_mb * MB - self.size
        if limits.stored_mb and growth.size > max(left, 0):
            wanted = Decimal(growth.size) / MB
            return LimitStatus("stored_mb", limits.stored_mb, Decimal(left) / MB, 0, True, wanted)
        return None


def lock(owners: Iterable[str]) -> dict[str, Total]:
    """Lock the owners' rows until the transaction ends, with all changes added; create missing ones.

    `access.budgets` locks accounts after this, everywhere: one order prevents deadlocks.
    """
    names = sorted(set(owners))
    if not names:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TOTALS} (owner, sessions, size) VALUES {', '.join(['(%s, 0, 0)'] * len(names))} "
            "ON CONFLICT (owner) DO UPDATE SET owner = excluded.owner RETURNING owner, sessions, size, counted_at",
            names,
        )
        totals = {
            owner: Total(owner, sessions, size, counted_at and utc(counted_at))
            for owner, sessions, size, counted_at in cursor.fetchall()
        }
        cursor.execute(
            f"DELETE FROM {CHANGES} WHERE owner IN ({', '.join(['%s'] * len(names))}) RETURNING owner, sessions, size",
            names,
        )
        for owner, *change in cursor.fetchall():
            totals[owner].add(*change)
    return totals


def store(totals: Iterable[Total]) -> None:
    """Store the rows that `lock` returned."""
    rows = [(total.sessions, total.size, _moment(total.counted_at), total.owner) for total in totals]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(f"UPDATE {TOTALS} SET sessions = %s, size = %s, counted_at = %s WHERE owner = %s", rows)


def note(changes: Sequence[tuple[str, int, int]]) -> None:
    """Leave changes (owner, sessions, bytes) for the owners' next writes."""
    if changes:
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {CHANGES} (owner, sessions, size) VALUES (%s, %s, %s)", changes)


def count_soon(owners: Iterable[str]) -> None:
    """Have the owners' records counted again by the housekeeping."""
    Stored.objects.filter(owner__in=set(owners)).update(counted_at=None)


def tidy() -> None:
    """Have old counts made again. Delete the rows of owners that have nothing, or no limit any more.

    What the latter store is not noted, so that their rows would be wrong when they have a limit again.
    """
    now = timezone.now()
    old = Stored.objects.filter(Q(counted_at__lt=now - RIGHT_FOR) | Q(counted_at__gt=now + SKEW))
    if old.exists():
        old.update(counted_at=None)
    waiting = StoredChange.objects.values("owner")
    Stored.objects.filter(sessions=0, size=0, counted_at__isnull=False).exclude(owner__in=waiting).delete()
    for owners in _unlimited():
        StoredChange.objects.filter(owner__in=owners).delete()
        Stored.objects.filter(owner__in=owners).delete()


def _unlimited() -> Iterable[list[str]]:
    usual = bool(settings.OWNER_SESSIONS or settings.OWNER_STORED_MB)
    if not (settings.BYOK_SESSIONS or settings.BYOK_STORED_MB):
        yield list(Stored.objects.filter(owner__startswith="byok:").values_list("owner", flat=True))
    if not usual:
        yield [OPEN_OWNER]
    clients = Client.objects.values_list("client_id", "sessions", "stored_mb")
    yield [
        f"client:{client_id}" for client_id, *own in clients if not any(usual if mine is None else mine for mine in own)
    ]


def _moment(value: datetime | None) -> Any:
    return connection.ops.adapt_datetimefield_value(value) if value else None
