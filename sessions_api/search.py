"""Searches conversations by words in titles and messages. Triggers keep the index (migrations/0005_search.py)."""

import json
import logging
import re
import time
import unicodedata
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import Max, QuerySet
from django.db.models.expressions import RawSQL

from sessions_api.models import Session
from sessions_api.search_numbers import readings, written
from web.pace import Pace, bounded

logger = logging.getLogger(__name__)

MAX_CHARS, MAX_WORDS = 1_000, 10  # of a query; the rest is ignored
NO_LETTER_HAS_THEM = re.compile("[\u0300-\u036f]+")  # accents that are left over; both databases drop them
WHOLE_LETTERS = 100  # PostgreSQL's index has the beginnings of longer words in long messages
TYPED_LETTERS = 3  # of a last word that may be unfinished; fewer begin too many words
MAX_ENDINGS = 30  # SQLite: the most common words that complete an unfinished one
MANY_ENDINGS = 300  # looked at for those that an owner has said
MAX_PLACES = 2_000_000  # of all words that begin alike; with more, FTS5 would take seconds for a beginning
MAX_MATCHES = 10_000  # messages read from the index at a time; without it a common word takes seconds
CATCH_UP_SECONDS = 0.2  # before a search, half of it a rest; maintenance does what is left
# PostgreSQL: the newest sessions soon show a common word. Only a rare one needs the index.
LOOKED_THROUGH, MESSAGES_LOOKED_THROUGH = 400, 8_000
MANY = 101  # sessions: more than a page has
# SQLite: how often it reads MAX_MATCHES (10 ms each), for how many sessions, and how many words it looks for in single
# sessions (0.1 ms each).
SCANS, LAST_ACTIVE, WORDS_ASKED_FOR = 10, 5_000, 1_000

NOTED = """
SELECT noted.id, length(message.content) FROM {} noted
LEFT JOIN sessions_api_message message ON message.session_id = noted.id >> 22 AND message.position = noted.id & 4194303
ORDER BY noted.id LIMIT %s
"""
ADD_NOTED = """
INSERT INTO sessions_api_words(rowid, words)
SELECT noted.id, char(57344) || hex(session.owner) || ' ' ||
replace(coalesce(message.content, session.title), char(57344), ' ')
FROM sessions_api_unindexed noted JOIN sessions_api_session session ON session.id = noted.id >> 22
LEFT JOIN sessions_api_message message ON message.session_id = session.id AND message.position = noted.id & 4194303
WHERE noted.id <= %s ORDER BY noted.id
"""
DROP_NOTED = """
INSERT INTO sessions_api_words(sessions_api_words, rowid, words)
SELECT 'delete', noted.id, char(57344) || hex(session.owner) || ' ' || replace(message.content, char(57344), ' ')
FROM sessions_api_outdated noted JOIN sessions_api_session session ON session.id = noted.id >> 22
JOIN sessions_api_message message ON message.session_id = session.id AND message.position = noted.id & 4194303
WHERE noted.id <= %s ORDER BY noted.id
"""
DONE = "DELETE FROM {} WHERE id <= %s"
QUEUES = {"sessions_api_outdated": DROP_NOTED, "sessions_api_unindexed": ADD_NOTED}
IN_FTS = """
SELECT number >> 22, count(*) FROM (SELECT rowid AS number FROM sessions_api_words
WHERE sessions_api_words MATCH %s AND rowid < %s << 22 ORDER BY rowid DESC LIMIT %s) GROUP BY 1
"""
AMONG_FTS = """
SELECT value FROM json_each(%s) WHERE EXISTS (SELECT 1 FROM sessions_api_words
WHERE sessions_api_words MATCH %s AND rowid BETWEEN value << 22 AND (value << 22) + 4194303) LIMIT %s
"""
# FTS5's own prefix query takes ten times as long: it reads all messages of all these words before the first result.
BEGINNING_WITH = "SELECT term FROM sessions_api_vocabulary WHERE term >= %s AND term < %s ORDER BY doc DESC LIMIT %s"
PLACES = "SELECT coalesce(sum(doc), 0) FROM sessions_api_vocabulary WHERE term >= %s AND term < %s"
SAID_BY = """
SELECT value FROM json_each(%s) WHERE EXISTS (SELECT 1 FROM sessions_api_words
WHERE sessions_api_words MATCH %s || ' AND "' || value || '"') LIMIT %s
"""
IN_GIN = """
(SELECT session_id FROM sessions_api_messagewords WHERE words @@ %s::tsquery LIMIT %s)
UNION SELECT unnest(%s::bigint[])
"""
# With IS TRUE, PostgreSQL reads the session's rows and does not search the index once for each session.
AMONG = """
SELECT pk FROM unnest(%s::bigint[]) pk WHERE (SELECT true FROM sessions_api_messagewords
WHERE session_id = pk AND (words @@ %s::tsquery) IS TRUE LIMIT 1) LIMIT %s
"""


def matching(sessions: QuerySet[Session], owner: str | None, text: str) -> QuerySet[Session]:
    """The sessions that have every word of the text in their title, or in one of their messages.

    Case and accents don't matter, and the last word may be unfinished. `owner`: the only owner of these sessions, if
    there is only one. A very common word is searched in the newest messages alone, so `sessions` should begin after the
    last page.
    """
    return having(sessions, owner, query_of(owner, text)) if text.strip() else sessions


def query_of(owner: str | None, text: str) -> str:
    """What a message must have, in the database's own language; empty if the text has no word."""
    return (_postgresql_query if connection.vendor == "postgresql" else _sqlite_query)(owner, text[:MAX_CHARS])


def having(sessions: QuerySet[Session], owner: str | None, query: str) -> QuerySet[Session]:
    """`matching`, for a query that has been made already."""
    if not query:
        return sessions.none()
    return (_on_postgresql if connection.vendor == "postgresql" else _on_sqlite)(sessions, owner, query)


def catch_up(seconds: float) -> None:
    """SQLite: bring the index up to date, for at most about this long, and leave half of the time to others.

    What was superseded goes first, so that it is not found.
    """
    if connection.vendor != "sqlite":
        return
    stop_at, pace = time.monotonic() + seconds, Pace()
    try:
        for queue in QUEUES:
            while _take_noted(queue, pace):
                if time.monotonic() >= stop_at:
                    return
                pace.rest()
    except OperationalError as problem:
        logger.warning("the search index could not be brought up to date", extra={"reason": str(problem)})


def _take_noted(queue: str, pace: Pace) -> bool:
    """Add or remove a batch. Return whether there was anything to do."""
    with connection.cursor() as cursor:
        cursor.execute(NOTED.format(queue), [pace.rows])
        noted = bounded(((row[0], row[1] or 0) for row in iter(cursor.fetchone, None)), pace.rows)
    if not noted:
        return False
    with pace.batch(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(QUEUES[queue], [noted[-1]])
        cursor.execute(DONE.format(queue), [noted[-1]])
    return True


def _on_sqlite(sessions: QuerySet[Session], owner: str | None, query: str) -> QuerySet[Session]:
    newest = sessions.order_by().aggregate(newest=Max("pk"))["newest"]
    if newest is None:
        return sessions.none()
    found = json.dumps(_in_fts(sessions, newest, query, WORDS_ASKED_FOR // (query.count('"') // 2)))
    return sessions.filter(pk__in=RawSQL("SELECT value FROM json_each(%s)", [found]))


def _sqlite_query(owner: str | None, text: str) -> str:
    words = _words(text)
    if not words:
        return ""
    catch_up(CATCH_UP_SECONDS)
    own = [f'"\ue000{owner.encode().hex()}"'] if owner else []
    terms = {word: f'"{word}"' for word in words}
    if _may_be_unfinished(text, words):
        terms[words[-1]] = f"({' OR '.join([terms[words[-1]], *_endings(words[-1], *own)])})"
    said = written(readings(words), lambda word: terms.get(word, f'"{word}"'), " AND ", " OR ")
    return " AND ".join([*own, said])


def _in_fts(sessions: QuerySet[Session], newest: int, query: str, most_asked: int) -> list[int]:
    """Keys of matching sessions: all, or at least the MANY that were last active. They need not be in `sessions`.

    It reads the index from the newest session down until that is enough, then looks into the sessions in doubt one by
    one. It can miss a session behind SCANS * MAX_MATCHES matching messages if more than `most_asked` are in doubt, or
    if fewer than MANY of the LAST_ACTIVE match.
    """
    found: set[int] = set()
    unread, doubtful = newest + 1, list[int]()
    last_active = sessions.order_by("-last_activity_at", "-pk").values_list("pk", flat=True)[:LAST_ACTIVE]
    for _ in range(SCANS):
        matches = dict(_rows(IN_FTS, query, unread, MAX_MATCHES))
        found |= matches.keys()
        if sum(matches.values()) < MAX_MATCHES:
            return list(found)
        unread = min(matches)  # one match is enough, so skip the rest of a long conversation
        doubtful, are_all = _doubtful(list(last_active), found, unread)
        if are_all and len(doubtful) <= most_asked:
            break
    return [*found, *(pk for (pk,) in _rows(AMONG_FTS, json.dumps(doubtful[:most_asked]), query, MANY))]


def _doubtful(last_active: list[int], found: set[int], unread: int) -> tuple[list[int], bool]:
    """The unread sessions before the first MANY matches, and whether these are all."""
    doubtful, sure = list[int](), 0
    for pk in last_active:
        sure += pk in found
        if sure == MANY:
            return doubtful, True
        if pk < unread and pk not in found:
            doubtful.append(pk)
    return doubtful, len(last_active) < LAST_ACTIVE


def _words(text: str) -> list[str]:
    """Words as FTS5 sees them: letters and digits of an old Unicode version, which every SQLite knows."""
    old = unicodedata.ucd_3_2_0
    plain = NO_LETTER_HAS_THEM.sub("", unicodedata.normalize("NFC", text))
    return _first("".join(c if old.category(c)[0] in "LN" else " " for c in plain).split())


def _endings(beginning: str, own: str = "") -> list[str]:
    """Terms for words of the index that begin like this. `own`: the term that an owner's messages have.

    Of an owner's search these are words that the owner has said: what others say crowds out nothing.
    """
    plain = unicodedata.normalize("NFD", beginning.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    between = plain, plain + "\U0010ffff"
    common = [term for (term,) in _rows(BEGINNING_WITH, *between, MANY_ENDINGS if own else MAX_ENDINGS)]
    words = [term for term in common if _words(term) == [term]]
    if own:
        words = [term for (term,) in _rows(SAID_BY, json.dumps(words), own, MAX_ENDINGS)]
        if len(words) < MAX_ENDINGS and len(common) == MANY_ENDINGS and _row(PLACES, *between)[0] <= MAX_PLACES:
            return [f'"{plain}" *']
    return [f'"{word}"' for word in words]


def _postgresql_query(owner: str | None, text: str) -> str:
    words = _first(_row("SELECT sessions_api_words(%s)", text)[0])
    if not words:
        return ""
    unfinished = words[-1] if _may_be_unfinished(text, words) else None
    return written(readings(words), lambda word: _lexeme(word, word == unfinished), " & ", " | ")


def _on_postgresql(sessions: QuerySet[Session], owner: str | None, query: str) -> QuerySet[Session]:
    newest, there_are_more = _newest(sessions)
    found = [pk for (pk,) in _rows(AMONG, newest, query, MANY)]
    if len(found) == MANY or not there_are_more:
        return sessions.filter(pk__in=found)
    own = f" & {_quoted(f'={owner}')}" if owner else ""
    return sessions.filter(pk__in=RawSQL(IN_GIN, [query + own, MAX_MATCHES, found]))  # noqa: S611 - a constant


def _newest(sessions: QuerySet[Session]) -> tuple[list[int], bool]:
    """The newest sessions to look through, and whether there are more."""
    newest = list(sessions.order_by("-last_activity_at", "-pk").values_list("pk", "message_count")[:LOOKED_THROUGH])
    room = MESSAGES_LOOKED_THROUGH
    few = []
    for pk, messages in newest:
        room -= messages
        if room < 0:
            break
        few.append(pk)
    return few, len(few) < len(newest) or len(newest) == LOOKED_THROUGH


def _first(words: list[str]) -> list[str]:
    """The first words, and the last one, which may be unfinished."""
    return words if len(words) <= MAX_WORDS else [*words[: MAX_WORDS - 1], words[-1]]


def _may_be_unfinished(text: str, words: list[str]) -> bool:
    return text[-1:].isalnum() and len(words[-1]) >= TYPED_LETTERS


def _lexeme(word: str, is_beginning: bool) -> str:
    return _quoted(word[:WHOLE_LETTERS]) + (":*" if is_beginning or len(word) >= WHOLE_LETTERS else "")


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def _row(query: str, *values: Any) -> tuple[Any, ...]:
    """The only row of the answer."""
    return _rows(query, *values)[0]


def _rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
