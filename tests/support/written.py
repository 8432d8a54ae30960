"""Conversations written straight into a running service's database, however long they are."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from testing.client import Caller

COLUMNS = "session_id, position, turn_id, role, content, status, metadata, created_at, superseded_at"
AT_ONCE = 100  # rows of a statement: SQLite takes 32,766 values, older ones 999


@dataclass(frozen=True)
class Line:
    """A message that is not simply one that stands."""

    content: str
    superseded_at: str | None = None


def write(caller: Caller, session_id: str, texts: Sequence[str | Line], title: str = "Conversa") -> list[str]:
    """A conversation of the caller: questions and replies in turn. Returns the messages' ids."""
    caller.chat("Oi", session_id=session_id)
    sql, now = caller.service.sql, datetime.now(UTC).isoformat()
    [[pk]] = sql("SELECT max(id) FROM sessions_api_session WHERE session_id = %s", session_id)
    sql("DELETE FROM sessions_api_message WHERE session_id = %s", pk)
    sql("UPDATE sessions_api_session SET title = %s, message_count = %s WHERE id = %s", title, len(texts), pk)
    ids, rows = list[str](), list[list[Any]]()
    for position, text in enumerate(texts):
        line = text if isinstance(text, Line) else Line(text)
        turn = ids[-1].rpartition(".")[0] if position % 2 else secrets.token_hex(11)
        ids.append(f"{turn}.{position}")
        role = "assistant" if position % 2 else "user"
        rows.append([pk, position, turn, role, line.content, "completed", "{}", now, line.superseded_at])
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        values = ", ".join([f"({', '.join(['%s'] * len(some[0]))})"] * len(some))
        sql(f"INSERT INTO sessions_api_message ({COLUMNS}) VALUES {values}", *(value for row in some for value in row))
    return ids
