"""Closing, erasing and purging sessions; ending dead turns; whose turn it is to do so.

Everything here is synchronous and works in small transactions, so that no turn waits for it for long.
"""

import logging
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from access.models import Reservation
from sessions_api.lookups import oldest_key
from sessions_api.models import Cancellation, IdempotencyKey, Lease, Message, Session
from sessions_api.runner import is_gone, outages, this_process
from sessions_api.wiping import wipe

logger = logging.getLogger(__name__)

BATCH = 500  # sessions looked at, and messages deleted, in one transaction, or a few more
ERASE_ATTEMPTS = 50  # a tenth of a second apart: others hold a session for milliseconds
CANCELLATION_KEPT = timedelta(minutes=1)  # whoever runs the turn has looked long before
RESERVATION_KEPT = timedelta(seconds=5)  # after a turn's end: whoever ran it says by then what it took
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Removed(NamedTuple):
    """How many sessions and messages were deleted."""

    sessions: int = 0
    messages: int = 0


def close(sessions: QuerySet[Session]) -> int:
    """Close what is open among the sessions; with no retention they are erased. Answers how many."""
    if settings.SESSION_CLOSED_RETENTION_HOURS == 0:
        return erase(sessions.filter(closed_at=None))
    return sessions.filter(closed_at=None).update(closed_at=timezone.now())


def erase(sessions: QuerySet[Session]) -> int:
    """Delete the sessions, busy or not, and every trace of their text from the database file. Answers how many.

    Which sessions these are is asked once, at the beginning: that may be a slow search.
    """
    pks = list(sessions.order_by().values_list("pk", flat=True))
    removed = sum(_erase(pks[start : start + BATCH]) for start in range(0, len(pks), BATCH))
    if removed:
        wipe()
    return removed


def _erase(pks: Sequence[int]) -> int:
    sessions, removed = Session.objects.filter(pk__in=pks), 0
    for _attempt in range(ERASE_ATTEMPTS):
        removed += _remove(sessions).sessions
        if not sessions.exists():
            return removed
        time.sleep(0.1)
    raise OperationalError("sessions could not be erased: another transaction keeps them locked")


def purge(sessions: QuerySet[Session], seconds: float = math.inf) -> Removed:
    """Delete sessions and every trace of their text, for about so many seconds at the most.

    Where somebody is writing to one at this very moment, it is left for the next time.
    """
    removed = _remove(sessions, seconds)
    if any(removed):
        wipe()
    return removed


def _remove(sessions: QuerySet[Session], seconds: float = math.inf) -> Removed:
    """Delete sessions with their messages, and leave half of the time to those who wait to write."""
    stop_at = time.monotonic() + seconds
    total = Removed()
    began_at = time.monotonic()
    while any(step := _remove_some(sessions)):
        total = Removed(total.sessions + step.sessions, total.messages + step.messages)
        now = time.monotonic()
        if now >= stop_at:
            break
        time.sleep(now - began_at)
        began_at = time.monotonic()
    return total


@transaction.atomic
def _remove_some(sessions: QuerySet[Session]) -> Removed:
    """Delete some of the sessions, with about `BATCH` messages in all; on SQLite a long one piece by piece."""
    batch = _take(sessions)
    if connection.vendor == "sqlite" and batch and batch[0][1] > BATCH:
        first = batch[0][0]
        if messages := _shorten(first):
            return Removed(0, messages)
        batch = batch[:1]
    deleted = Session.objects.filter(pk__in=[pk for pk, _ in batch]).delete()[1]
    return Removed(deleted.get(Session._meta.label, 0), deleted.get(Message._meta.label, 0))


def _take(sessions: QuerySet[Session]) -> list[tuple[int, int]]:
    """Key and length of a few of the sessions, which nobody else can write to until the transaction's end."""
    chosen: list[tuple[int, int]] = []
    for pk, count in sessions.order_by().values_list("pk", "message_count")[:BATCH]:
        if chosen and sum(length for _, length in chosen) + count > BATCH:
            break
        chosen.append((pk, count))
    if not connection.features.has_select_for_update:
        return chosen  # SQLite: whoever is in a transaction is the only one who writes
    return _lock(sessions, [pk for pk, _ in chosen])


def _lock(sessions: QuerySet[Session], pks: Sequence[int]) -> list[tuple[int, int]]:
    """Those that nobody else is writing to, locked, as far as they still belong to `sessions` now.

    Waits for no lock, and so cannot be part of a deadlock. Who begins a turn meanwhile waits for the transaction's
    end, finds the session gone, and begins it in a new one.
    """
    mine = set(Session.objects.filter(pk__in=pks).select_for_update(skip_locked=True).values_list("pk", flat=True))
    pending = Message.objects.filter(session__in=mine, status=Message.Status.PENDING).order_by()
    running = set(pending.values_list("session_id", flat=True))
    if running:
        running -= set(pending.select_for_update(skip_locked=True).values_list("session_id", flat=True))
    return list(sessions.filter(pk__in=mine - running).order_by().values_list("pk", "message_count"))


def _shorten(pk: int) -> int:
    """Delete the oldest messages of a long session, unless few are left. Answers how many.

    Closed, it is out of reach of readers and new turns from now on; and as closed for very long, so that the automatic
    purge ends what a crash may leave half done.
    """
    messages = Message.objects.filter(session=pk).order_by("position")
    following = messages.values_list("position", flat=True)[BATCH : BATCH + 1].first()
    if following is None:
        return 0
    Session.objects.filter(pk=pk).update(closed_at=LONG_AGO)
    return messages.filter(position__lt=following).order_by().delete()[0]


def expired_sessions(idle: timedelta | None, closed: timedelta | None) -> QuerySet[Session]:
    """The sessions that nobody has to keep: idle or closed for longer than that. `None`: that rule is off.

    A session whose turn still runs is never among them.
    """
    now = timezone.now()
    rule = Q(pk__in=[])
    if closed is not None:
        rule |= Q(closed_at__lt=now - closed)
    if idle is not None:
        rule |= Q(last_activity_at__lt=now - idle)
    running = Message.objects.filter(status=Message.Status.PENDING).values("session")
    return Session.objects.filter(rule).exclude(pk__in=running)


def drop_expired_keys() -> int:
    """Delete idempotency keys that are older than IDEMPOTENCY_HOURS (answers how many), and old cancellations."""
    now = timezone.now()
    Cancellation.objects.filter(requested_at__lt=now - CANCELLATION_KEPT).delete()
    expired = IdempotencyKey.objects.filter(created_at__lt=oldest_key(now))
    removed = 0
    while batch := list(expired.order_by("created_at").values_list("pk", flat=True)[:BATCH]):
        removed += expired.filter(pk__in=batch).delete()[0]
    return removed


def end_lost_reservations() -> int:
    """End what was set aside for turns that ended without anybody's saying what they took. Answers how many.

    They count with what was set aside: their process is gone, and the provider may have billed them.
    """
    some_time_ago = timezone.now() - RESERVATION_KEPT
    lost = Reservation.objects.filter(ended=False, began_at__lt=some_time_ago)
    alive = Message.objects.filter(Q(status=Message.Status.PENDING) | Q(completed_at__gte=some_time_ago))
    alive = alive.filter(turn_id=OuterRef("turn_id"), role=Message.Role.ASSISTANT)
    return lost.filter(~Exists(alive)).update(ended=True)


def retention() -> tuple[timedelta | None, timedelta | None]:
    """How long the settings let sessions be idle, and be kept after they were closed. `None`: for ever."""
    hours = settings.SESSION_CLEANUP_HOURS, settings.SESSION_CLOSED_RETENTION_HOURS
    idle, closed = (None if length is None else timedelta(hours=length) for length in hours)
    return idle, closed


def interrupt_dead_turns(cutoff: datetime | None = None) -> int:
    """Mark the turns that nobody runs any more: no heartbeat since `cutoff`, or a runner that is certainly gone."""
    cutoff = cutoff or oldest_heartbeat()
    pending = Message.objects.filter(status=Message.Status.PENDING)
    runners = pending.order_by().values_list("runner", flat=True).distinct()
    gone = [name for name in runners if is_gone(name)]
    return _interrupt(pending.filter(Q(heartbeat_at__lt=cutoff) | Q(heartbeat_at=None) | Q(runner__in=gone)))


def is_dead(heartbeat_at: datetime | None) -> bool:
    """Whether a pending turn has not been heard of for longer than its lease."""
    return heartbeat_at is None or heartbeat_at < oldest_heartbeat()


def oldest_heartbeat() -> datetime:
    """What is older belongs to a dead turn. Nothing does right after an outage: nobody could write a heartbeat then."""
    lease = settings.TURN_LEASE_SECONDS
    return timezone.now() - timedelta(seconds=lease) if outages.over_for(lease) else LONG_AGO


def interrupt_turns(turn_ids: Sequence[str]) -> list[int]:
    """Mark turns that were found dead; answers for each whether it still was. (For the writer: see writer.py.)"""
    pending = Message.objects.filter(status=Message.Status.PENDING, heartbeat_at__lt=oldest_heartbeat())
    return [_interrupt(pending.filter(turn_id=turn_id)) for turn_id in turn_ids]


def _interrupt(replies: QuerySet[Message]) -> int:
    """End them with the text that had come. They are never sent again: the provider may have answered, and billed."""
    count = replies.update(
        status=Message.Status.INTERRUPTED,
        error_code="turn_interrupted",
        may_have_been_billed=True,
        completed_at=timezone.now(),
        heartbeat_at=None,
    )
    if count:
        logger.warning("turns interrupted", extra={"turns": count})
    return count


def take_lease(name: str, seconds: float) -> bool:
    """Whether this process may do `name` until then: it holds the lease, or nobody does."""
    now = timezone.now()
    until = now + timedelta(seconds=seconds)
    Lease.objects.get_or_create(name=name, defaults={"holder": this_process(), "expires_at": now})
    mine_or_nobodys = Q(holder=this_process()) | Q(expires_at__lte=now)
    return bool(Lease.objects.filter(mine_or_nobodys, name=name).update(holder=this_process(), expires_at=until))
