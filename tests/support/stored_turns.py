"""Turns stored by the store itself, without a service or a provider."""

from typing import Any

from sessions_api.models import Message, Outcome, new_public_id
from sessions_api.store.messages import BegunTurn, NewTurn
from sessions_api.store.turns import begin_turns, finish_turns


def question(session_id: str = "s", text: str = "Oi", **more: Any) -> NewTurn:
    return NewTurn(
        owner=more.pop("owner", "open"), session_id=session_id, turn_id=new_public_id(), question=text, **more
    )


def begin(turn: NewTurn) -> BegunTurn:
    [begun] = begin_turns([turn])
    assert isinstance(begun, BegunTurn)
    return begun


def outcome(begun: BegunTurn, text: str = "Olá", **more: Any) -> Outcome:
    return Outcome(
        **{"session_pk": begun.session_pk, "position": begun.position, "content": text, "status": "completed", **more}
    )


def say(session_id: str, text: str, reply: str, **more: Any) -> BegunTurn:
    begun = begin(question(session_id, text, **more))
    assert finish_turns([outcome(begun, reply)]) == ["completed"]
    return begun


def rows(session_id: str = "s") -> list[tuple[Any, ...]]:
    messages = Message.objects.filter(session__session_id=session_id).order_by("position")
    return list(messages.values_list("position", "role", "content", "status"))
