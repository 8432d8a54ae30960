"""What has expired: idle and closed sessions, idempotency keys, reservations of lost turns."""

from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from access.models import Reservation
from sessions_api.models import Cancellation, IdempotencyKey, Message, Session
from sessions_api.store.lookups import oldest_key
from web.moments import SKEW
from web.pace import delete_slowly

CANCELLATION_KEPT = timedelta(minutes=1)  # the process that runs the turn looks much earlier
RESERVATION_KEPT = timedelta(seconds=5)  # after a turn's end; its process settles it by then


def expired_sessions(idle: timedelta | None, closed: timedelta | None) -> QuerySet[Session]:
    """Sessions that were idle or closed for longer than this. `None` turns a rule off.

    A session with a running turn never expires.
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
    """Delete old cancellations, and idempotency keys older than IDEMPOTENCY_HOURS. Return how many keys."""
    now = timezone.now()
    old = Q(requested_at__lt=now - CANCELLATION_KEPT) | Q(requested_at__gt=now + CANCELLATION_KEPT)
    delete_slowly(Cancellation.objects.filter(old))
    expired = IdempotencyKey.objects.filter(created_at__lt=oldest_key(now))
    return delete_slowly(expired.order_by("created_at"))


def end_lost_reservations() -> int:
    """End reservations of turns whose process ended without settling them. Return how many.

    They count in full, because the provider may have billed them.
    """
    now = timezone.now()
    some_time_ago, ahead = now - RESERVATION_KEPT, now + SKEW
    lost = Reservation.objects.filter(Q(began_at__lt=some_time_ago) | Q(began_at__gt=ahead), ended=False)
    just_ended = Q(completed_at__gte=some_time_ago, completed_at__lte=ahead)
    alive = Message.objects.filter(Q(status=Message.Status.PENDING) | just_ended)
    alive = alive.filter(turn_id=OuterRef("turn_id"), role=Message.Role.ASSISTANT)
    return lost.filter(~Exists(alive)).update(ended=True)


def retention() -> tuple[timedelta | None, timedelta | None]:
    """How long the settings keep idle sessions, and closed ones. `None`: for ever."""
    hours = settings.SESSION_CLEANUP_HOURS, settings.SESSION_CLOSED_RETENTION_HOURS
    idle, closed = (None if length is None else timedelta(hours=length) for length in hours)
    return idle, closed
