"""Closes, erases and purges sessions in small transactions, so that no turn waits for long."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from access.storage import totals
from sessions_api.models import Message, Session
from sessions_api.sqlite import wipe
from sessions_api.store import sizes
from web.moments import EPOCH
from web.pace import Pace, bounded

BATCH = 500  # sessions named in one query
ERASE_ATTEMPTS = 50  # a tenth of a second apart: others hold a session for milliseconds


class Removed(NamedTuple):
    """How many sessions and messages were deleted."""

    sessions: int = 0
    messages: int = 0


def close(sessions: QuerySet[Session]) -> int:
    """Close the open ones, or erase them if the retention is zero. Return how many."""
    if settings.SESSION_CLOSED_RETENTION_HOURS == 0:
        return erase(sessions.filter(closed_at=None))
    return sessions.filter(closed_at=None).update(closed_at=timezone.now())


def erase(sessions: QuerySet[Session]) -> int:
    """Delete the sessions, busy or not, and every trace of their text in the database file. Return how many.

    It evaluates `sessions` only once, because that may be a slow search.
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
    """Delete sessions and every trace of their text, within about this many seconds.

    It leaves a session to the next purge if somebody is writing to it.
    """
    removed = _remove(sessions, seconds)
    if any(removed):
        wipe()
    return removed


def _remove(sessions: QuerySet[Session], seconds: float = math.inf) -> Removed:
    """Delete sessions with their messages, and leave half of the time to others."""
    stop_at, pace = time.monotonic() + seconds, Pace()
    total = Removed()
    while any(step := _remove_some(sessions, pace)):
        total = Removed(total.sessions + step.sessions, total.messages + step.messages)
        if time.monotonic() >= stop_at:
            break
        pace.rest()
    return total


def _remove_some(sessions: QuerySet[Session], pace: Pace) -> Removed:
    """Delete some sessions. SQLite, where all others wait meanwhile, deletes long ones piece by piece."""
    with pace.batch() as rows, transaction.atomic():
        pks = _take(sessions, rows)
        if connection.vendor != "sqlite":
            return _delete(pks)
        messages = Message.objects.filter(session__in=pks).order_by("session", "position")
        lengths = messages.values_list("session", "position", Length("content")).iterator(chunk_size=20)
        taken = bounded((((pk, position), length) for pk, position, length in lengths), rows)
        if not taken:
            return _delete(pks)
        last, position = taken[-1]
        partly = messages.filter(session=last, position__gt=position).exists()
        whole = [pk for pk in pks if pk < last or (pk == last and not partly)]  # the rest is for the next batch
        return _delete(whole) if whole else _shorten(last, position)


def _delete(pks: Sequence[int]) -> Removed:
    totals.note(sizes.to_be_freed(pks))
    deleted = Session.objects.filter(pk__in=pks).delete()[1]
    return Removed(deleted.get(Session._meta.label, 0), deleted.get(Message._meta.label, 0))


def _take(sessions: QuerySet[Session], rows: int) -> list[int]:
    """Keys of some sessions, with about so many messages, that nobody else can write to until the transaction ends."""
    chosen: list[int] = []
    for pk, count in sessions.order_by().values_list("pk", "message_count")[:rows]:
        rows -= count
        if chosen and rows < 0:
            break
        chosen.append(pk)
    if not connection.features.has_select_for_update:
        return chosen  # SQLite: a transaction like this one is the only writer
    return _lock(sessions, chosen)


def _lock(sessions: QuerySet[Session], pks: Sequence[int]) -> list[int]:
    """Lock the sessions that nobody else is writing to, and that still belong to `sessions`.

    It waits for no lock, so it cannot cause a deadlock. A turn that begins meanwhile waits for the transaction to end,
    finds the session gone, and begins in a new one.
    """
    mine = set(Session.objects.filter(pk__in=pks).select_for_update(skip_locked=True).values_list("pk", flat=True))
    pending = Message.objects.filter(session__in=mine, status=Message.Status.PENDING).order_by()
    running = set(pending.values_list("session_id", flat=True))
    if running:
        running -= set(pending.select_for_update(skip_locked=True).values_list("session_id", flat=True))
    return list(sessions.filter(pk__in=mine - running).order_by().values_list("pk", flat=True))


def _shorten(pk: int, last: int) -> Removed:
    """Delete the oldest messages of a long session, up to position `last`.

    It closes the session, so that readers and new turns cannot reach it any more. The early date makes the automatic
    purge finish the work after a crash.
    """
    Session.objects.filter(pk=pk).update(closed_at=EPOCH)
    totals.note(sizes.to_be_freed([pk], last + 1))
    return Removed(0, Message.objects.filter(session=pk, position__lte=last).delete()[0])
