"""A copy of a conversation up to a turn, as a conversation of its own."""

from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from bancobot_project.errors import ApiError
from sessions_api import housekeeping
from sessions_api.models import Message, Session, new_public_id

BATCH = 500  # messages copied in one transaction: no turn waits for long
UNSEEN = timedelta(hours=1)  # a copy that is not whole is closed from then on: what a crash leaves is purged some day
# What a message took was paid once. Nobody ran the copy, so it has no `runner` and counts in no statistics.
COPIED = (
    "role", "content", "status", "model", "provider", "finish_reason", "history_omitted", "error_code", "metadata",
    "created_at", "completed_at",
)  # fmt: skip


def fork(session: Session, after_turn: str | None, session_id: str) -> Session:
    """The owner's new session with what was said up to the end of a turn (empty: nothing; `None`: all that has ended).

    Superseded messages are left out, and feedback stays where it was given. Raises `ApiError`.
    """
    messages, origin = _to_copy(session, after_turn)
    if Session.objects.filter(owner=session.owner, session_id=session_id, closed_at=None).exists():
        raise ApiError("session_exists")
    copy = _begin(session, session_id, origin)
    try:
        _copy(messages, copy)
        _open(copy)
    except BaseException:
        housekeeping.erase(Session.objects.filter(pk=copy.pk))
        raise
    return copy


def _to_copy(session: Session, after_turn: str | None) -> tuple[QuerySet[Message], str]:
    """The messages, and the id of the turn that is the last of them."""
    messages = session.messages.filter(superseded_at=None).order_by("position")
    if after_turn == "":
        return messages.none(), ""
    if after_turn is None:
        pending = messages.filter(status=Message.Status.PENDING).values_list("turn_id", flat=True).first()
        messages = messages.exclude(turn_id=pending) if pending else messages
        return messages, messages.values_list("turn_id", flat=True).last() or ""
    turn = messages.filter(turn_id=after_turn)
    last = turn.aggregate(last=Max("position"))["last"]
    if last is None:
        raise ApiError("turn_not_found")
    if turn.filter(status=Message.Status.PENDING).exists():
        raise ApiError("session_busy", retry_after=1)
    return messages.filter(position__lte=last), after_turn


def _begin(session: Session, session_id: str, origin: str) -> Session:
    now = timezone.now()
    same: dict[str, Any] = {
        name: getattr(session, name) for name in ("owner", "title", "model", "system_prompt", "persona_id", "metadata")
    }
    return Session.objects.create(
        **same, session_id=session_id, forked_from=origin, created_at=now, last_activity_at=now, closed_at=now + UNSEEN
    )


def _copy(messages: QuerySet[Message], copy: Session) -> None:
    """Copy the messages under new ids of their turns, which are the owner's alone like all such ids."""
    turn_ids: dict[str, str] = {}
    behind = -1
    while batch := list(messages.filter(position__gt=behind)[:BATCH]):
        behind = batch[-1].position
        with transaction.atomic():
            Message.objects.bulk_create(
                Message(
                    session=copy,
                    position=copy.message_count + number,
                    turn_id=turn_ids.setdefault(message.turn_id, new_public_id()),
                    **{name: getattr(message, name) for name in COPIED},
                )
                for number, message in enumerate(batch)
            )
        copy.message_count += len(batch)


def _open(copy: Session) -> None:
    copy.closed_at = None
    try:
        copy.save(update_fields=["closed_at", "message_count"])
    except IntegrityError as problem:  # somebody was faster with this id
        raise ApiError("session_exists") from problem
