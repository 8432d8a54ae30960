"""Chooses the part of the history that the provider gets."""

from collections.abc import Sequence
from itertools import groupby

from chat.providers.base import ChatMessage
from sessions_api.store.messages import PastMessage, token_bound


def fit(
    history: Sequence[PastMessage], system_prompt: str, question: str, context_length: int, max_tokens: int
) -> tuple[list[ChatMessage], int]:
    """The messages for the model, and how many messages of `history` had no room.

    The system prompt and the question always go. Of the history, as many of the newest whole turns go as fit beside a
    reply of `max_tokens`.
    """
    budget = context_length - min(max_tokens, context_length // 2) - token_bound(system_prompt) - token_bound(question)
    kept: list[list[PastMessage]] = []
    omitted = 0
    turns = _sendable_turns(history)
    if turns and turns[0][0].role == "assistant":  # its question is older than what was read
        omitted += len(turns.pop(0))
    for turn in reversed(turns):
        budget -= sum(token_bound(message.content) for message in turn)
        if budget < 0:
            omitted += len(turn)
        else:
            kept.append(turn)
    past = [ChatMessage(message.role, message.content) for turn in reversed(kept) for message in turn]
    system = [ChatMessage("system", system_prompt)] if system_prompt else []
    return [*system, *past, ChatMessage("user", question)], omitted


def _sendable_turns(history: Sequence[PastMessage]) -> list[list[PastMessage]]:
    """The turns, oldest first. A reply that failed without text is left out, with its question."""
    turns = [list(turn) for _, turn in groupby(history, key=lambda message: message.turn_id)]
    return [
        turn for turn in turns if turn[-1].role != "assistant" or turn[-1].content or turn[-1].status == "completed"
    ]
