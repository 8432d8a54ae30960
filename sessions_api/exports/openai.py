"""JSON Lines for OpenAI's fine-tuning of chat models: `{"messages": [system?, user, assistant, …]}`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from sessions_api.exports.reading import Conversation, Said
from sessions_api.exports.writing import ExportOptions, one_line
from sessions_api.models import Message

_encode = json.JSONEncoder(ensure_ascii=False).encode


def write(conversations: Iterable[Conversation], options: ExportOptions) -> Iterator[str]:
    """It leaves out turns that were not completed, and conversations without a completed turn."""
    for conversation in conversations:
        texts = _texts(conversation, options)
        first = next(texts, None)
        options.counts.count_conversation(written=first is not None)
        if first is not None:
            yield '{"messages": ['
            yield first
            yield from texts
            yield "]}\n"


def _texts(conversation: Conversation, options: ExportOptions) -> Iterator[str]:
    prompt, separator = conversation.session.system_prompt, ""
    for turn in _completed_turns(conversation.messages, options):
        if prompt:
            yield _line("system", prompt)
            prompt, separator = "", ", "
        for message in turn:
            options.counts.messages += 1
            yield separator + _line(message.role, message.content)
            separator = ", "


def _completed_turns(messages: Iterable[Said], options: ExportOptions) -> Iterator[Sequence[Message]]:
    for _, group in groupby(messages, key=lambda said: said.message.turn_id):
        turn = [said.message for said in group]
        if turn[-1].role == Message.Role.ASSISTANT and all(map(_is_whole, turn)):
            yield turn
        else:
            options.counts.messages_left_out += len(turn)


def _is_whole(message: Message) -> Any:
    return message.status == Message.Status.COMPLETED and message.content and not message.superseded_at


def _line(role: str, content: str) -> str:
    return one_line(_encode({"role": role, "content": content}))
