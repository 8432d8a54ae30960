"""Conversations inserted directly into the database, in the store's form."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from sessions_api.models import Message, Session, new_public_id


def make_session(
    session_id: str = "", *, turns: int = 1, age: timedelta = timedelta(), status: str = "completed", **fields: Any
) -> Session:
    """A session whose last activity was `age` ago; `status` is that of its newest reply."""
    then = timezone.now() - age
    values = {"owner": "open", "created_at": then, "last_activity_at": then, "message_count": 2 * turns, **fields}
    session = Session.objects.create(session_id=session_id or new_public_id(), **values)
    add_turns(session, turns)
    session.messages.filter(position=2 * turns - 1).update(status=status)
    return session


def add_turns(session: Session, turns: int, question: str = "Pergunta {}", reply: str = "Resposta {}") -> None:
    rows = []
    for number in range(turns):
        turn_id = new_public_id()
        for place, (role, text) in enumerate((("user", question), ("assistant", reply))):
            rows.append(
                Message(
                    session=session,
                    position=2 * number + place,
                    turn_id=turn_id,
                    role=role,
                    content=text.format(number),
                    status="completed",
                    created_at=session.created_at,
                    heartbeat_at=session.last_activity_at,
                )
            )
    Message.objects.bulk_create(rows, batch_size=500)


def make_many(count: int, **fields: Any) -> list[Session]:
    """Sessions without messages, active now."""
    now = timezone.now()
    values = {"owner": "open", "created_at": now, "last_activity_at": now, **fields}
    return Session.objects.bulk_create((Session(session_id=str(n), **values) for n in range(count)), batch_size=1000)
