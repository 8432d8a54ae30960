"""Which messages a search has found: the newest one of each session, or those of one session."""

import json
from collections.abc import Sequence

from django.db import connection
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from sessions_api.models import Message, Session

LAST = 4194303  # SQLite: the row of a session's title; messages come before it
NEWEST_IN_FTS = """
SELECT value, (SELECT rowid & 4194303 FROM sessions_api_words WHERE sessions_api_words MATCH %s
AND rowid BETWEEN value << 22 AND (value << 22) + 4194302 ORDER BY rowid DESC LIMIT 1) FROM json_each(%s)
"""
ALL_IN_FTS = """
SELECT rowid & 4194303 FROM sessions_api_words WHERE sessions_api_words MATCH %s AND rowid BETWEEN %s AND %s
"""
# With IS TRUE, PostgreSQL reads the session's rows and does not search the whole index.
NEWEST_IN_WORDS = """
SELECT pk, (SELECT position FROM sessions_api_messagewords WHERE session_id = pk AND position >= 0
AND (words @@ %s::tsquery) IS TRUE ORDER BY position DESC LIMIT 1) FROM unnest(%s::bigint[]) pk
"""
ALL_IN_WORDS = """
SELECT position FROM sessions_api_messagewords WHERE session_id = %s AND position >= 0
AND (words @@ %s::tsquery) IS TRUE
"""


def newest_in(sessions: Sequence[Session], query: str) -> dict[int, Message]:
    """The newest message of each session that has what the query asks for, by the session's key.

    A session is missing where its title alone has it.
    """
    if not query or not sessions:
        return {}
    keys = [session.pk for session in sessions]
    on_postgresql = connection.vendor == "postgresql"
    statement = NEWEST_IN_WORDS if on_postgresql else NEWEST_IN_FTS
    with connection.cursor() as cursor:
        cursor.execute(statement, [query, keys if on_postgresql else json.dumps(keys)])
        places = [(pk, position) for pk, position in cursor.fetchall() if position is not None]
    found = Message.objects.filter(pk__in=places).only("session_id", "position", "turn_id", "role")
    return {message.session_id: message for message in found}


def among(messages: QuerySet[Message], session: Session, query: str) -> QuerySet[Message]:
    """Those of the session's messages that have what the query asks for."""
    if not query:
        return messages.none()
    if connection.vendor == "postgresql":
        positions = RawSQL(ALL_IN_WORDS, [session.pk, query])  # noqa: S611 - a constant
    else:
        first = session.pk << 22
        positions = RawSQL(ALL_IN_FTS, [query, first, first + LAST - 1])  # noqa: S611 - a constant
    return messages.filter(position__in=positions)
