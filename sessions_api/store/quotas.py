"""Whether an owner may store more. On the way of turns for a set of them, on Django's way for one write."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.utils import timezone

from access.callers import Caller
from access.limits import LimitStatus
from access.models import Forking, Stored
from access.storage import forks, totals
from access.storage.totals import Growth, Total
from sessions_api.models import Outcome, Session
from sessions_api.store import sizes
from sessions_api.store.messages import BegunTurn, NewTurn, SessionKey
from web.moments import lasting

FEW_SESSIONS, FEW_MESSAGES = 100, 2000  # of an owner whose record is counted at once: it takes some milliseconds


class Quotas:
    """What the limited owners of these turns have stored; their rows are locked until the transaction ends."""

    def __init__(self, turns: Sequence[NewTurn], known: dict[SessionKey, BegunTurn]) -> None:
        self.refusals: dict[str, LimitStatus] = {}
        limited = [turn for turn in turns if turn.storage_limits]
        self._growths = {turn.turn_id: growth_of(turn, known.get(turn.session_key)) for turn in limited}
        self._totals = locked({turn.owner for turn in limited})
        tried = {owner: replace(total) for owner, total in self._totals.items()}
        for turn in limited:
            if turn.storage_limits and (
                refusal := tried[turn.owner].try_add(self._growths[turn.turn_id], turn.storage_limits)
            ):
                self.refusals[turn.turn_id] = refusal
        for owner, total in tried.items():
            self._totals[owner].counted_at = total.counted_at

    def store(self, begun: Sequence[NewTurn]) -> None:
        """Count the turns that begin: a budget may have refused some of them."""
        for turn in begun:
            if turn.turn_id in self._growths:
                self._totals[turn.owner].add(*self._growths[turn.turn_id])
        totals.store(self._totals.values())


def growth_of(turn: NewTurn, begun: BegunTurn | None) -> Growth:
    """What the question adds, with its reply's empty row. The reply's text counts when it has ended."""
    size = 2 * sizes.PER_MESSAGE + sizes.of_text(turn.question) + sizes.of_json(turn.metadata)
    if begun is None:
        prompt = turn.default_system_prompt if turn.system_prompt is None else turn.system_prompt
        return Growth(1, size + sizes.of_session(Session(system_prompt=prompt)))
    if turn.system_prompt is not None:
        size += sizes.beyond(turn.system_prompt, begun.system_prompt)
    return Growth(0, size)


def growth_by(changes: Mapping[str, Any], session: Session) -> Growth:
    """What a change of a session's texts adds."""
    metadata = changes.get("metadata", session.metadata)
    prompt = changes.get("system_prompt", session.system_prompt)
    longer = max(0, sizes.of_json(metadata) - sizes.of_json(session.metadata))
    return Growth(0, longer + sizes.beyond(prompt, session.system_prompt))


def note_replies(outcomes: Sequence[Outcome]) -> None:
    """Count the texts of replies that have ended. This waits for nobody's row."""
    grown: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.stored_for:
            grown[outcome.stored_for] += sizes.of_text(outcome.content) + sizes.of_json(outcome.metadata)
    totals.note([(owner, 0, size) for owner, size in grown.items()])


def locked(owners: set[str]) -> dict[str, Total]:
    """The owners' totals. A record that nobody has counted yet is counted here, if it is small."""
    found = totals.lock(owners)
    for total in found.values():
        if total.counted_at is None and _is_small(total.owner):
            totals.store([total])
            total.add(*sizes.difference(total.owner))
            total.counted_at = timezone.now()
    return found


def _is_small(owner: str) -> bool:
    counts: list[int] = []
    for closed in (False, True):  # each has its index
        mine = Session.objects.filter(owner=owner, closed_at__isnull=not closed).order_by()
        counts += mine.values_list("message_count", flat=True)[: FEW_SESSIONS + 1]
    return len(counts) <= FEW_SESSIONS and sum(counts) <= FEW_MESSAGES


def charge_quota(caller: Caller, growth: Growth) -> None:
    """Count what a caller is about to store. Raises `ApiError` where that is beyond a limit."""
    if not caller.limits.limit_storage or growth == (0, 0):
        return
    with transaction.atomic():
        total = locked({caller.owner})[caller.owner]
        refusal = total.try_add(growth, caller.limits)
        totals.store([total])
    if refusal:
        raise refusal.error


def count_again(seconds: float) -> None:
    """Count the records of owners for whom that is due, for about so many seconds. For the housekeeping."""
    stop_at = time.monotonic() + seconds
    half_copied = Forking.objects.filter(lasting("expires_at", timezone.now(), forks.LEASE)).values("owner")
    due = Stored.objects.filter(counted_at=None).exclude(owner__in=half_copied)
    tried: list[str] = []
    while time.monotonic() < stop_at and (owner := due.exclude(owner__in=tried).values_list("owner").first()):
        tried.append(owner[0])
        change = sizes.difference(owner[0])
        with transaction.atomic():
            if Stored.objects.filter(owner=owner[0], counted_at=None).update(counted_at=timezone.now()):
                totals.note([(owner[0], *change)])
