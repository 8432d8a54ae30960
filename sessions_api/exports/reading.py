"""Reads conversations in order, a few at a time, however many and however long they are.

Short queries read by key. Between them nothing stays open: no server-side cursor, and no transaction, during which
SQLite's write-ahead log could only grow.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.db.models import Count, QuerySet

from sessions_api.models import Feedback, Message, Session

SESSIONS = 200  # held at once
MESSAGES = 500  # held at once: 10 MB if each has 20,000 characters


class Said(NamedTuple):
    """A message and its feedback."""

    message: Message
    feedback: Feedback | None


class Conversation(NamedTuple):
    """Read `messages` once, and before asking for the next conversation.

    `case_id` is the session's id, followed by the key if several sessions have that id.
    """

    session: Session
    case_id: str
    messages: Iterator[Said]


def conversations(sessions: QuerySet[Session], *, superseded: bool = True) -> Iterator[Conversation]:
    """The sessions with their messages, in the order in which they began."""
    for page in _pages(sessions):
        shared = _shared_ids(page)
        for few in _batches(page):
            for session, messages in _with_messages(few, superseded):
                case_id = f"{session.session_id}#{session.pk}" if session.session_id in shared else session.session_id
                yield Conversation(session, case_id, messages)


def conversation(session: Session, *, superseded: bool = True) -> Conversation:
    """A single one. Its owner may not learn whether other owners use its id."""
    return Conversation(session, session.session_id, _piece_by_piece(session, superseded))


def _pages(sessions: QuerySet[Session]) -> Iterator[list[Session]]:
    sessions, last = sessions.order_by("pk"), 0
    while page := list(sessions.filter(pk__gt=last)[:SESSIONS]):
        yield page
        last = page[-1].pk


def _shared_ids(page: Sequence[Session]) -> set[str]:
    """The ids that several sessions have: those of other owners, or closed ones."""
    same = Session.objects.filter(session_id__in={session.session_id for session in page}).order_by()
    counted = same.values_list("session_id").annotate(sessions=Count("pk")).filter(sessions__gt=1)
    return {session_id for session_id, _ in counted}


def _batches(page: Sequence[Session]) -> Iterator[list[Session]]:
    """Neighbours with at most `MESSAGES` messages together, or a single session with more."""
    batch: list[Session] = []
    count = 0
    for session in page:
        if batch and count + session.message_count > MESSAGES:
            yield batch
            batch, count = [], 0
        batch.append(session)
        count += session.message_count
    if batch:
        yield batch


def _with_messages(few: Sequence[Session], superseded: bool) -> Iterator[tuple[Session, Iterator[Said]]]:
    if len(few) == 1:
        yield few[0], _piece_by_piece(few[0], superseded)
        return
    lengths = {session.pk: session.message_count for session in few}
    found: dict[int, list[Said]] = defaultdict(list)
    for said in _read(Message.objects.filter(session__in=lengths), Feedback.objects.filter(session__in=lengths)):
        if said.message.position < lengths[said.message.session_id] and (superseded or not said.message.superseded_at):
            found[said.message.session_id].append(said)
    for session in few:
        yield session, iter(found.pop(session.pk, []))


def _piece_by_piece(session: Session, superseded: bool) -> Iterator[Said]:
    """As many messages as the session's row says, so that they fit its totals."""
    for start in range(0, session.message_count, MESSAGES):
        of_these = {
            "session": session.pk,
            "position__gte": start,
            "position__lt": min(start + MESSAGES, session.message_count),
        }
        for said in _read(Message.objects.filter(**of_these), Feedback.objects.filter(**of_these)):
            if superseded or not said.message.superseded_at:
                yield said


def _read(messages: QuerySet[Message], feedback: QuerySet[Feedback]) -> Iterator[Said]:
    opinions = {(opinion.session_id, opinion.position): opinion for opinion in feedback.order_by()}
    for message in messages.order_by("session_id", "position"):
        yield Said(message, opinions.get((message.session_id, message.position)))
