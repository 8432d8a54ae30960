"""What somebody thinks of a reply."""

import re
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from access.storage.totals import Growth
from sessions_api.models import Feedback, Message
from sessions_api.store.sizes import beyond
from web.errors import ApiError

A_MESSAGE_ID = re.compile(r"([A-Za-z0-9_-]{1,32})\.([0-9]{1,9})")


def find_reply(owner: str, message_id: str) -> Message:
    """The owner's reply with that public id; raises `ApiError` where there is none in an open session."""
    named = A_MESSAGE_ID.fullmatch(message_id)
    reply = named and (
        Message.objects.filter(turn_id=named[1], position=int(named[2]), role=Message.Role.ASSISTANT)
        .filter(session__owner=owner, session__closed_at=None)
        .first()
    )
    if not reply:
        raise ApiError("message_not_found")
    return reply


def growth_by(comment: str, reply: Message) -> Growth:
    """What the opinion adds to what is stored."""
    old = Feedback.objects.filter(session=reply.session_id, position=reply.position).values_list("comment").first()
    return Growth(0, beyond(comment, old[0] if old else ""))


def give(reply: Message, rating: str | None, comment: str) -> Feedback | None:
    """Keep the newest opinion of a reply; no rating takes it back."""
    place: dict[str, Any] = {"session_id": reply.session_id, "position": reply.position}
    if rating is None:
        Feedback.objects.filter(**place).delete()
        return None
    values = {"rating": rating, "comment": comment, "created_at": timezone.now()}
    feedback, _created = Feedback.objects.update_or_create(**place, defaults=values)
    return feedback


def by_position(messages: Sequence[Message]) -> dict[int, Feedback]:
    """The feedback on messages of one session."""
    if not messages:
        return {}
    given = Feedback.objects.filter(
        session=messages[0].session_id, position__in=[message.position for message in messages]
    )
    return {one.position: one for one in given}
