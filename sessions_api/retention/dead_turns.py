"""Ends turns that no process runs any more."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from sessions_api.models import Message
from sessions_api.store.process import is_gone, outages
from web.moments import EPOCH, SKEW

logger = logging.getLogger(__name__)


class Ahead:
    """Heartbeats of a clock that was ahead. They do not tell their age, but a living turn replaces its own."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, datetime], float] = {}  # since when, by time.monotonic()

    def unchanged(self, pending: QuerySet[Message]) -> Q:
        """Those that this process has seen for longer than the lease."""
        now, lease = time.monotonic(), settings.TURN_LEASE_SECONDS
        found = pending.filter(heartbeat_at__gt=timezone.now() + SKEW).values_list("turn_id", "heartbeat_at")
        self._seen = {(turn_id, at): self._seen.get((turn_id, at), now) for turn_id, at in found if at}
        silent = Q(pk__in=[])
        for (turn_id, at), since in self._seen.items():
            if now - since > lease and outages.over_for(lease):
                silent |= Q(turn_id=turn_id, heartbeat_at=at)
        return silent


ahead = Ahead()


def interrupt_dead_turns(cutoff: datetime | None = None) -> int:
    """Mark turns that no process runs any more: no heartbeat since `cutoff`, or a runner that is certainly gone."""
    cutoff = cutoff or oldest_heartbeat()
    pending = Message.objects.filter(status=Message.Status.PENDING)
    runners = pending.order_by().values_list("runner", flat=True).distinct()
    gone = [name for name in runners if is_gone(name)]
    dead = Q(heartbeat_at__lt=cutoff) | Q(heartbeat_at=None) | Q(runner__in=gone) | ahead.unchanged(pending)
    return _interrupt(pending.filter(dead))


def is_dead(heartbeat_at: datetime | None) -> bool:
    """Whether a pending turn had no heartbeat for longer than its lease."""
    return heartbeat_at is None or heartbeat_at < oldest_heartbeat()


def oldest_heartbeat() -> datetime:
    """An older heartbeat means a dead turn. After an outage none does at first: no process could write heartbeats."""
    lease = settings.TURN_LEASE_SECONDS
    return timezone.now() - timedelta(seconds=lease) if outages.over_for(lease) else EPOCH


def interrupt_turns(turn_ids: Sequence[str]) -> list[int]:
    """Mark turns that looked dead. Return for each whether it still was (1 or 0). For store/writer.py."""
    pending = Message.objects.filter(status=Message.Status.PENDING, heartbeat_at__lt=oldest_heartbeat())
    return [_interrupt(pending.filter(turn_id=turn_id)) for turn_id in turn_ids]


def _interrupt(replies: QuerySet[Message]) -> int:
    """End them with the text so far. Nobody sends them again: the provider may have answered and billed."""
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
