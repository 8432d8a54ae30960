"""JSON Lines: a line for each conversation, with all that is stored. `import_sessions` reads it back."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from sessions_api.exports.reading import Conversation, Said
from sessions_api.exports.writing import ExportOptions, moment, one_line
from sessions_api.models import Message

VERSION = 1
SESSION_FIELDS = (
    "session_id", "owner", "title", "model", "system_prompt", "persona_id", "created_at", "last_activity_at",
    "closed_at", "forked_from", "prompt_tokens", "completion_tokens", "cost",
)  # fmt: skip
# Every column of a message, but those that mean nothing elsewhere; metadata goes last.
NOT_EXPORTED = ("session", "metadata", "runner", "heartbeat_at")
MESSAGE_FIELDS = tuple(field.name for field in Message._meta.concrete_fields if field.name not in NOT_EXPORTED)
FEEDBACK_FIELDS = ("rating", "comment", "created_at")


def _as_text(value: datetime | Decimal) -> str:
    """Amounts are texts too, because a JSON number would lose digits."""
    return moment(value) if isinstance(value, datetime) else f"{value:f}"


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_as_text).encode
_encode_sorted = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
_of_session = attrgetter(*SESSION_FIELDS)
_of_message = attrgetter(*MESSAGE_FIELDS)
_of_feedback = attrgetter(*FEEDBACK_FIELDS)


def write(conversations: Iterable[Conversation], options: ExportOptions) -> Iterator[str]:
    for conversation in conversations:
        options.counts.conversations += 1
        head = {"version": VERSION, **_named(SESSION_FIELDS, _of_session(conversation.session))}
        yield f'{_object(head, conversation.session.metadata)[:-1]},"messages":['
        separator = ""
        for said in conversation.messages:
            options.counts.messages += 1
            yield separator + _message(said)
            separator = ","
        yield "]}\n"


def _message(said: Said) -> str:
    values = _named(MESSAGE_FIELDS, _of_message(said.message))
    values["feedback"] = said.feedback and _named(FEEDBACK_FIELDS, _of_feedback(said.feedback))
    return _object(values, said.message.metadata)


def _object(values: dict[str, Any], metadata: Any) -> str:
    """Metadata comes last and sorted: databases keep no order of names, and the same data must give the same text."""
    return one_line(f'{_encode(values)[:-1]},"metadata":{_encode_sorted(metadata) if metadata else "{}"}}}')


def _named(names: Sequence[str], values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))
