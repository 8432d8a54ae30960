"""The housekeeping of a running service, in a thread of its own and in one process at a time."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.contrib.sessions.backends.db import SessionStore
from django.db import Error as DatabaseProblem
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from access import audit, limits, login_throttle
from access.storage import totals
from sessions_api import search
from sessions_api.models import Lease
from sessions_api.retention import dead_turns, erasure, expiry
from sessions_api.statistics import tallies
from sessions_api.store import quotas
from sessions_api.store.process import outages, this_process
from web.errors import record
from web.moments import over

logger = logging.getLogger(__name__)

ROUND_SECONDS = 3.0
PURGE_SECONDS = 60.0
PURGE_SLICE_SECONDS = 5.0  # less than the lease, so that dead turns never wait for a long purge
LEASE_SECONDS = 15.0
INDEX_SLICE_SECONDS = 3.0
STORED_SLICE_SECONDS = 1.0
COUNT_SECONDS = 20.0
COUNT_SLICE_SECONDS = 3.0  # a database from before the tallies has much to count


class Maintenance(threading.Thread):
    """Ends dead turns every few seconds, counts ended turns, and purges what has expired, until it is stopped."""

    def __init__(self) -> None:
        super().__init__(name="maintenance", daemon=True)
        self._stopping = threading.Event()
        self._purge_at = 0.0
        self._count_at = 0.0

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        self._guarded(dead_turns.interrupt_dead_turns)  # at once: a restarted process ends what it left behind
        while not self._stopping.wait(ROUND_SECONDS):
            self._guarded(self._round)

    def _guarded(self, work: Callable[[], object]) -> None:
        """No error ends the thread, because nobody would notice."""
        try:
            work()
        except Exception as problem:
            if isinstance(problem, DatabaseProblem):
                outages.record_failure()
            record(problem)
        finally:
            connection.close()

    def _round(self) -> None:
        if not take_lease("maintenance", LEASE_SECONDS):
            return
        dead_turns.interrupt_dead_turns()
        expiry.end_lost_reservations()
        quotas.count_again(STORED_SLICE_SECONDS)
        search.catch_up(INDEX_SLICE_SECONDS)
        if time.monotonic() >= self._count_at:
            done = tallies.count_ended(COUNT_SLICE_SECONDS)
            self._count_at = time.monotonic() + COUNT_SECONDS if done else 0.0
        if time.monotonic() >= self._purge_at:
            self._purge()

    def _purge(self) -> None:
        began_at = time.monotonic()
        expiry.drop_expired_keys()
        limits.purge_counters(timezone.now())
        totals.tidy()
        audit.purge()
        login_throttle.purge()
        tallies.purge()
        SessionStore.clear_expired()
        expired = expiry.expired_sessions(*expiry.retention())
        removed = erasure.purge(expired, PURGE_SLICE_SECONDS)
        if any(removed):
            logger.info("expired sessions purged", extra=removed._asdict())
            audit.record(audit.Action.PURGED, audit.SYSTEM, **removed._asdict())
        unfinished = time.monotonic() - began_at >= PURGE_SLICE_SECONDS
        self._purge_at = 0.0 if unfinished else began_at + PURGE_SECONDS


def take_lease(name: str, seconds: float) -> bool:
    """Whether this process may do `name` for so long: it holds the lease, or nobody does."""
    now, length = timezone.now(), timedelta(seconds=seconds)
    Lease.objects.get_or_create(name=name, defaults={"holder": this_process(), "expires_at": now})
    mine_or_nobodys = Q(holder=this_process()) | over("expires_at", now, length)
    mine = {"holder": this_process(), "expires_at": now + length}
    return bool(Lease.objects.filter(mine_or_nobodys, name=name).update(**mine))
