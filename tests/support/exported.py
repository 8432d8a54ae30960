"""Conversations for export tests, and readers of their exports."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sessions_api.exports.formats import FORMATS
from sessions_api.exports.reading import conversations
from sessions_api.exports.selection import Selection
from sessions_api.exports.writing import ExportOptions, in_pieces
from sessions_api.models import Feedback, Message, Session

THEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOSTILE = [
    '=HYPERLINK("http://example.org";"clique")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "   =1+1",
    "\u00a0=1+1",
    "\u200b\ufeff=1+1",
    "＝1+1",
    "＠SUM(1)",
    "'=1+1",
    "''",
    'aspas "duplas", vírgulas; e ponto',
    "linha\nlinha\r\nlinha\rfim",
    "controle \x01\x08\x0b\x1b\x7f\x85\u2028\u2029 fim",
    "\ufffe\uffff não são caracteres",
    "😀 👩‍👩‍👧 \u202eesrever\u202c مرحبا",
    "<script>alert(1)</script>]]>&amp;",
    "</messages>{}[]\\u0000 \\",
    " espaços ",
    "é" * 500_000,  # a megabyte
]


def talk(*texts: str, at: datetime = THEN, metadata: Any = None, **fields: Any) -> Session:
    """A session of turns a minute apart, each answered after 1.5 s; `texts` are questions and replies in turn."""
    values = {"session_id": "ana", "owner": "open", "created_at": at, "last_activity_at": at, **fields}
    session = Session.objects.create(message_count=len(texts), **values)
    for position, content in enumerate(texts):
        add(session, position, content, at + timedelta(minutes=position // 2), metadata)
    return session


def add(session: Session, position: int, content: str, at: datetime, metadata: Any) -> None:
    question = position % 2 == 0
    of_a_reply = {
        "model": "test/model", "provider": "openrouter", "prompt_tokens": 12, "completion_tokens": 3,
        "cost": Decimal("0.000123456789"), "latency_ms": 1500, "first_token_ms": 200, "runner": "a/1",
    }  # fmt: skip
    Message.objects.create(
        session=session,
        position=position,
        turn_id=f"turno{position // 2}",
        role="user" if question else "assistant",
        content=content,
        status="completed",
        created_at=at,
        completed_at=at if question else at + timedelta(seconds=1.5),
        metadata=(metadata or {}) if question else {},
        **({} if question else of_a_reply),
    )


def change(session: Session, position: int, **fields: Any) -> None:
    session.messages.filter(position=position).update(**fields)


def rate(session: Session, position: int, comment: str = "") -> None:
    Feedback.objects.create(session=session, position=position, rating="up", comment=comment, created_at=THEN)


def exported(name: str, options: ExportOptions | None = None, *, superseded: bool = False, **selection: Any) -> str:
    read = conversations(Selection(**selection).sessions(), superseded=superseded or FORMATS[name].superseded)
    return b"".join(in_pieces(FORMATS[name].write(read, options or ExportOptions()))).decode()


def objects(text: str) -> list[dict[str, Any]]:
    """The lines of JSON Lines, split by a reader with more line ends than most."""
    return [json.loads(line) for line in text.splitlines()]


def rows(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    csv.field_size_limit(10_000_000)
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True))


def column(text: str, name: str, delimiter: str = ",") -> list[str]:
    return [row[name] for row in rows(text, delimiter)]
