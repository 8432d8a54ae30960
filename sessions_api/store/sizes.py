"""How much the record takes, as owners' limits count it: bytes of UTF-8, and a fixed amount for each row.

New text is measured in memory before it is stored, stored text by the database, which need not read it for that
(PostgreSQL, and SQLite from 3.43 on). The two agree for text. For JSON they may differ, so JSON that is erased is not
subtracted: the next count of the record (`difference`) finds it.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection

from access.models import Stored
from access.storage.totals import CHANGES, TOTALS
from sessions_api.models import Feedback, Session
from sessions_api.store.lookups import MESSAGES, SESSIONS

PER_SESSION = 1000  # the title, names and numbers, and their indexes
PER_MESSAGE = 500
EVERY_POSITION = 2**31 - 1


def of_text(text: str) -> int:
    return len(text.encode())


def beyond(text: str, old: str) -> int:
    """What a text adds that takes the place of another one.

    A shorter one adds nothing, and is not subtracted: two who shorten one text at once would make room twice. The next
    count finds it.
    """
    return max(0, of_text(text) - of_text(old))


def of_json(value: Mapping[str, Any] | None) -> int:
    return len(json.dumps(value)) if value else 2


def of_session(session: Session) -> int:
    """What it takes without its messages."""
    return PER_SESSION + of_text(session.system_prompt) + of_json(session.metadata)


def text_size(column: str) -> str:
    """SQL for the bytes of a text."""
    if connection.vendor == "sqlite" and sqlite3.sqlite_version_info < (3, 43):
        return f"LENGTH(CAST({column} AS BLOB))"
    return f"OCTET_LENGTH({column})"


def json_size(column: str) -> str:
    if connection.vendor == "sqlite":
        return text_size(column)
    return f"CASE WHEN {column} = '{{}}' THEN {of_json(None)} ELSE PG_COLUMN_SIZE({column}) END"


def message_size() -> str:
    """SQL for the size of a message `m`. A reply counts when it has ended, its row from the beginning."""
    text = f"{text_size('m.content')} + {json_size('m.metadata')}"
    return f"{PER_MESSAGE} + CASE WHEN m.status = 'pending' THEN 0 ELSE {text} END"


def difference(owner: str) -> tuple[int, int]:
    """How many sessions and bytes the record has beyond what is counted.

    One statement, so that all of it is of one moment, whatever is written meanwhile.
    """
    one = f"SELECT id, {PER_SESSION} + {text_size('system_prompt')} + {json_size('metadata')} AS size FROM {SESSIONS} "
    counted = " UNION ALL ".join(f"SELECT sessions, size FROM {table} WHERE owner = %s" for table in (TOTALS, CHANGES))
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH mine AS ({one} WHERE owner = %s AND closed_at IS NULL "
            f"UNION ALL {one} WHERE owner = %s AND closed_at IS NOT NULL), "
            f"texts AS (SELECT size FROM mine "
            f"UNION ALL SELECT {message_size()} FROM mine JOIN {MESSAGES} m ON m.session_id = mine.id "
            f"UNION ALL SELECT {text_size('f.comment')} FROM mine "
            f"JOIN {Feedback._meta.db_table} f ON f.session_id = mine.id), "
            f"counted AS ({counted}) "
            "SELECT (SELECT COUNT(*) FROM mine) - (SELECT COALESCE(SUM(sessions), 0) FROM counted), "
            "(SELECT COALESCE(SUM(size), 0) FROM texts) - (SELECT COALESCE(SUM(size), 0) FROM counted)",
            [owner] * 4,
        )
        sessions, size = cursor.fetchone()
    return int(sessions), int(size)


def of_copy(session_pk: int, places: Sequence[int]) -> int:
    """What a session's messages at these positions take; they are all that is not superseded up to the last of them."""
    if not places:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT COALESCE(SUM({message_size()}), 0) FROM {MESSAGES} m "
            "WHERE m.session_id = %s AND m.superseded_at IS NULL AND m.position <= %s",
            [session_pk, places[-1]],
        )
        return int(cursor.fetchone()[0])


def to_be_freed(session_pks: Sequence[int], before: int = EVERY_POSITION) -> list[tuple[str, int, int]]:
    """What the deletion of sessions takes from their owners' totals: changes, with numbers of 0 or less.

    `before`: of their messages only those before that position are deleted. Without metadata and opinions.
    """
    if not session_pks or not Stored.objects.exists():
        return []
    chosen = f"s.id IN ({', '.join(['%s'] * len(session_pks))})"
    counted = f"FROM {SESSIONS} s JOIN {TOTALS} t ON t.owner = s.owner"
    text = f"CASE WHEN m.status = 'pending' THEN 0 ELSE {text_size('m.content')} END"
    freed: dict[str, tuple[int, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT s.owner, COUNT(*), SUM({PER_SESSION} + {text_size('s.system_prompt')}) {counted} "
            f"WHERE {chosen} GROUP BY s.owner",
            list(session_pks),
        )
        for owner, sessions, size in cursor.fetchall():
            freed[owner] = (int(sessions), int(size)) if before == EVERY_POSITION else (0, 0)
        if not freed:
            return []
        cursor.execute(
            f"SELECT s.owner, SUM({PER_MESSAGE} + {text}) {counted} JOIN {MESSAGES} m ON m.session_id = s.id "
            f"WHERE {chosen} AND m.position < %s GROUP BY s.owner",
            [*session_pks, before],
        )
        for owner, size in cursor.fetchall():
            sessions, own = freed[owner]
            freed[owner] = sessions, own + int(size)
    return [(owner, -sessions, -size) for owner, (sessions, size) in sorted(freed.items())]
