"""Stores imported conversations, each whole or not at all, in small transactions, so that no turn waits for long."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Q

from access.storage.totals import count_soon
from sessions_api.models import Feedback, Message, Session

BATCH = 500  # messages in a statement, and about that many in a transaction unless a conversation has more


class Parts(NamedTuple):
    """A checked conversation that is not stored yet."""

    session: Session
    messages: Sequence[Message]
    feedback: Sequence[Feedback]


def store(conversations: Sequence[Parts]) -> Iterator[bool]:
    """Whether each was stored. If not, its owner has an open session of that name, or the very same session."""
    try:
        yield from list(_store(conversations))
    except IntegrityError:  # somebody began one of the sessions just now, or the file has one twice
        for one in conversations:
            try:
                yield from list(_store([one]))
            except IntegrityError:
                yield False


@transaction.atomic
def _store(conversations: Sequence[Parts]) -> list[bool]:
    known = [_is_known(parts.session) for parts in conversations]
    new = [parts for parts, there in zip(conversations, known, strict=True) if not there]
    for parts in new:  # a second try needs new keys
        parts.session.pk = None
    Session.objects.bulk_create(parts.session for parts in new)
    for parts in new:
        for message in parts.messages:
            message.session_id = parts.session.pk
        for opinion in parts.feedback:
            opinion.session_id = parts.session.pk
    Message.objects.bulk_create((message for parts in new for message in parts.messages), batch_size=BATCH)
    Feedback.objects.bulk_create((opinion for parts in new for opinion in parts.feedback), batch_size=BATCH)
    count_soon(parts.session.owner for parts in new)
    return [not there for there in known]


def _is_known(session: Session) -> bool:
    same = Q(created_at=session.created_at)
    if session.closed_at is None:
        same |= Q(closed_at=None)
    return Session.objects.filter(same, owner=session.owner, session_id=session.session_id).exists()
