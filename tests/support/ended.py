"""Ended turns with chosen times, inserted directly into the database."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sessions_api.models import Message, Session, new_public_id

OUTCOMES = [
    ("completed", ""), ("completed", ""), ("completed", ""), ("failed", "provider_timeout"), ("failed", "rate_limited"),
    ("cancelled", ""), ("interrupted", "turn_interrupted"),
]  # fmt: skip
OWNERS = ["open", "byok:d1gest", "byok:0ther", "client:aaaaaaaaaaaa", "client:bbbbbbbbbbbb"]
MODELS = ["m/um", "m/dois", "m/três", ""]


def add_ended(session: Session, at: datetime, **fields: Any) -> Message:
    """Add a turn to the session: a question, and a reply that ended at that moment."""
    turn_id, first = new_public_id(), session.message_count
    shared: dict[str, Any] = {"session": session, "turn_id": turn_id, "created_at": at, "completed_at": at}
    question = Message(**shared, position=first, role="user", status="completed", content="Pergunta")
    reply = {"role": "assistant", "status": "completed", "content": "Resposta", "runner": "host/1:2:3", **fields}
    Message.objects.bulk_create([question, answer := Message(**shared, position=first + 1, **reply)])
    session.message_count = first + 2
    session.save()
    return answer


def add_random(turns: int, now: datetime, longest_ago: timedelta, seed: int = 1) -> list[Message]:
    """Turns of many kinds in ten sessions, evenly spread over the time until now; some share a moment."""
    chance = random.Random(seed)
    sessions = Session.objects.bulk_create(
        Session(
            owner=OWNERS[number % len(OWNERS)], session_id=f"s{seed}-{number}", model="m/quatro", created_at=now,
            last_activity_at=now, message_count=2 * turns,
        )
        for number in range(10)
    )  # fmt: skip
    replies = []
    for number in range(turns):
        status, error = chance.choice(OUTCOMES)
        at = now - longest_ago * chance.random()
        replies.append(
            Message(
                session=chance.choice(sessions), position=number, turn_id=f"t{seed}-{number}", role="assistant",
                runner="host/1:2:3", created_at=at, completed_at=chance.choice([at, at.replace(minute=0, second=0)]),
                status=status, error_code=error, model=chance.choice(MODELS),
                prompt_tokens=chance.choice([None, chance.randrange(5000)]), completion_tokens=chance.randrange(900),
                cost=chance.choice([None, Decimal(chance.randrange(10**6)) / 10**9]),
                first_token_ms=chance.choice([None, chance.randrange(3000)]), latency_ms=chance.randrange(60_000),
            )
        )  # fmt: skip
    return Message.objects.bulk_create(replies, batch_size=500)
