"""A copy of a conversation up to a turn, as a conversation of its own."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from access.callers import Caller
from access.storage.forks import one_fork, refuse_busy, refuse_exhausted
from access.storage.totals import Growth, count_soon
from sessions_api.models import Message, Session, new_public_id
from sessions_api.retention import erasure
from sessions_api.store import sizes
from sessions_api.store.process import is_gone, this_process
from sessions_api.store.quotas import charge_quota
from web.errors import ApiError
from web.pace import Pace, bounded

UNSEEN = timedelta(hours=1)  # a copy that is not whole is closed from then on: what a crash leaves is purged some day
# What a message took was paid once. Nobody ran the copy, so it has no `runner` and counts in no statistics.
COPIED = (
    "role", "content", "status", "model", "provider", "finish_reason", "history_omitted", "error_code", "metadata",
    "created_at", "completed_at",
)  # fmt: skip


def fork(session: Session, after_turn: str | None, session_id: str, caller: Caller) -> Session:
    """The owner's new session with what was said up to the end of a turn (empty: nothing; `None`: all that has ended).

    Superseded messages are left out, and feedback stays where it was given. Raises `ApiError`.
    """
    refuse_exhausted(caller)
    refuse_busy(session.owner, is_gone)
    places, origin = _to_copy(session, after_turn)
    if Session.objects.filter(owner=session.owner, session_id=session_id, closed_at=None).exists():
        raise ApiError("session_exists")
    size = sizes.of_session(session) + sizes.of_copy(session.pk, places)
    with one_fork(session.owner, size, this_process(), is_gone):
        charge_quota(caller, Growth(1, size))
        copy = _begin(session, session_id, origin)
        try:
            _copy(session, places, copy)
            _open(session, copy)
        except BaseException:
            erasure.erase(Session.objects.filter(pk=copy.pk))
            count_soon([session.owner])
            raise
    return copy


def _to_copy(session: Session, after_turn: str | None) -> tuple[list[int], str]:
    """The positions of the messages, and the id of the turn that is the last of them.

    One look at the conversation: a moment later it may go on, or parts of it be superseded.
    """
    status_of_limit = session.messages.filter(superseded_at=None).order_by("position")
    rows = list(status_of_limit.values_list("position", "turn_id", "status"))
    pending = {turn_id for _, turn_id, status in rows if status == Message.Status.PENDING}
    if after_turn == "":
        return [], ""
    if after_turn is None:
        rows = [row for row in rows if row[1] not in pending]
        return [position for position, *_ in rows], rows[-1][1] if rows else ""
    last = max((position for position, turn_id, _ in rows if turn_id == after_turn), default=None)
    if last is None:
        raise ApiError("turn_not_found")
    if after_turn in pending:
        raise ApiError("session_busy", retry_after=1)
    return [position for position, *_ in rows if position <= last], after_turn


def _begin(session: Session, session_id: str, origin: str) -> Session:
    now = timezone.now()
    same: dict[str, Any] = {
        name: getattr(session, name) for name in ("owner", "title", "model", "system_prompt", "persona_id", "metadata")
    }
    return Session.objects.create(
        **same, session_id=session_id, forked_from=origin, created_at=now, last_activity_at=now, closed_at=now + UNSEEN
    )


def _copy(session: Session, places: Sequence[int], copy: Session) -> None:
    """Copy the messages under new ids of their turns, which are the owner's alone like all such ids.

    It leaves half of the time to those who wait to write.
    """
    turn_ids: dict[str, str] = {}
    pace, start = Pace(), 0
    while start < len(places):
        waiting = session.messages.filter(position__in=places[start : start + pace.rows]).order_by("position")
        batch = bounded(((one, len(one.content)) for one in waiting.iterator(chunk_size=20)), pace.rows)
        if not batch:  # erased meanwhile
            return
        with pace.batch(), transaction.atomic():
            copied = Message.objects.bulk_create(
                Message(
                    session=copy,
                    position=copy.message_count + number,
                    turn_id=turn_ids.setdefault(message.turn_id, new_public_id()),
                    **{name: getattr(message, name) for name in COPIED},
                )
                for number, message in enumerate(batch)
            )
        copy.message_count += len(copied)
        start = bisect_right(places, batch[-1].position)
        if start < len(places):
            pace.rest()


def _open(session: Session, copy: Session) -> None:
    if not Session.objects.filter(pk=session.pk, closed_at=None).exists():  # erased meanwhile, or closed
        raise ApiError("session_not_found")
    copy.closed_at = None
    try:
        copy.save(update_fields=["closed_at", "message_count"])
    except IntegrityError as problem:  # somebody was faster with this id
        raise ApiError("session_exists") from problem
