"""A turn's reply as the API answers it."""

from datetime import UTC, datetime
from typing import Any

from sessions_api.api.usage import stored_error, usage_of
from sessions_api.models import NOTES, Message, Outcome


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def chat_answer(reply: Outcome | Message, turn_id: str, session_id: str) -> dict[str, Any]:
    """The answer of POST /chat when the turn is completed or cancelled."""
    usage = usage_of(reply)
    return {
        "response": reply.content,
        "model_used": reply.model,
        "session_id": session_id,
        "tokens_used": usage["total_tokens"],
        "timestamp": timestamp(reply.completed_at) if reply.completed_at else None,
        "turn_id": turn_id,
        "finish_reason": reply.finish_reason or None,
        "usage": usage,
        **notes_of(reply),
    }


def message_answer(reply: Outcome | Message, turn_id: str, session_id: str) -> dict[str, Any]:
    """The answer of POST /api/message."""
    return {"response": reply.content, "session_id": session_id, "turn_id": turn_id, **notes_of(reply)}


def notes_of(reply: Outcome | Message) -> dict[str, Any]:
    """Extra keys of an answer, where there is something to say of how the reply came about."""
    return {name: reply.metadata[name] for name in NOTES if name in reply.metadata} if reply.metadata else {}


def turn_state(reply: Message) -> dict[str, Any]:
    """The answer of GET /turns/{id}: a stored turn's state, its text so far, and at the end its answer or error."""
    session_id, completed_at = reply.session.session_id, reply.completed_at
    ended_well = reply.status in (Message.Status.COMPLETED, Message.Status.CANCELLED)
    answer = chat_answer(reply, reply.turn_id, session_id) if ended_well else None
    return {
        "turn_id": reply.turn_id,
        "session_id": session_id,
        "status": reply.status,
        "text": reply.content,
        "created_at": timestamp(reply.created_at),
        "completed_at": timestamp(completed_at) if completed_at else None,
        "answer": answer,
        "error": stored_error(reply),
    }
