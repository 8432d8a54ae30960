"""What each client sent and received, and the checker that compares it with the upstream and the database.

The checker trusts nothing of the service: it reads the database with SQL of its own.
"""

import itertools
import re
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from testing.exchange import Request
from testing.service import Service
from testing.upstream import Upstream

# Refusals before anything is stored.
NOTHING_STORED = {"session_busy", "overloaded", "rate_limited", "provider_unavailable", "idempotency_mismatch"}
NOT_ACCEPTED = {400, 422, 429, 503}  # after such an answer the service may ask again, as promise 10 says
MARKER = re.compile(r"\[q\d+\]")
MESSAGES = """
    SELECT s.session_id, s.id, m.position, m.turn_id, m.role, m.status, m.content, m.error_code, m.may_have_been_billed
    FROM sessions_api_message m JOIN sessions_api_session s ON s.id = m.session_id ORDER BY s.id, m.position
"""
BROKEN_INDEXES = """
    SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
    JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relname LIKE 'sessions_api%'
"""


@dataclass
class Asked:
    """One question of one client, with a unique marker; a retry with the same key is the same question.

    All times are those of time.monotonic().
    """

    session: str
    marker: str
    question: str  # ends with the marker
    key: str = ""
    sent_at: float = field(default_factory=time.monotonic)
    told: str | None = None  # the whole reply
    told_at: float = 0.0
    turn_id: str = ""
    status: int = 0  # of an error
    code: str = ""
    cut_at: float = 0.0  # when a connection first ended before the answer did
    text: str = ""  # the longest text that a stream has shown
    shown: list[tuple[float, int]] = field(default_factory=list)  # times, and characters shown by then
    contradictions: list[str] = field(default_factory=list)

    def answered(self, reply: str, turn_id: str = "") -> None:
        """The client has got the whole reply: a 2xx body, or `done`. A repetition must be the same."""
        if self.told is not None and self.told != reply:
            self.contradictions.append(f"{self.marker} was told two replies: {self.told!r} and {reply!r}")
        self.told, self.told_at = reply, self.told_at or time.monotonic()
        self.began(turn_id)

    def began(self, turn_id: str) -> None:
        """The client has learnt its question's turn id."""
        if turn_id and self.turn_id not in ("", turn_id):
            self.contradictions.append(f"{self.marker} became two turns: {self.turn_id} and {turn_id}")
        self.turn_id = turn_id or self.turn_id

    def failed(self, status: int, code: str, turn_id: str = "") -> None:
        """The client got an error, as an answer or as an event (status 200)."""
        self.status, self.code = status, code
        self.began(turn_id)

    def cut(self) -> None:
        """The connection ended, or the client left, before the end of the answer."""
        self.cut_at = self.cut_at or time.monotonic()

    def shows(self, text: str) -> None:
        """A stream has shown so much of the reply; a second stream begins again with the same text."""
        if not (text.startswith(self.text) or self.text.startswith(text)):
            self.contradictions.append(f"{self.marker} was shown {self.text!r}, and then {text!r}")
        self.text = max(text, self.text, key=len)
        self.shown.append((time.monotonic(), len(text)))


class Ledger:
    """All questions of a step. Threads may share it."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def ask(self, session: str, text: str = "Pergunta", key: str = "") -> Asked:
        """Call it right before the question is sent. `session` is unique among all owners."""
        with self._lock:
            marker = f"[q{next(self._numbers)}]"
            asked = Asked(session, marker, f"{text} {marker}", key)
            self.asked.append(asked)
        return asked

    @property
    def acknowledged(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.told is not None]


class Row(NamedTuple):
    session: str
    session_pk: int
    position: int
    turn_id: str
    role: str
    status: str
    content: str
    error_code: str
    may_have_been_billed: bool


@dataclass
class Stored:
    """A turn in the database."""

    question: Row
    reply: Row

    @property
    def history(self) -> list[str]:
        """What it adds to the history of later turns: nothing without a reply to read."""
        kept = self.reply.content.strip() and self.reply.error_code != "content_moderated"
        return [self.question.content, self.reply.content] if kept else []


Reply = Callable[[str], str]


def check(ledger: Ledger, upstream: Upstream | None, service: Service, reply: Reply | None = None) -> list[str]:
    """Every difference between the answers, the upstream requests, and the stored rows. The service may run.

    `upstream`: none where it keeps no record of its requests, as a real model does.
    `reply` says what the upstream answers a question in full, if that is known: then the texts are compared with it.
    """
    return [
        *(problem for asked in ledger.asked for problem in asked.contradictions),
        *check_database(service),
        *check_rows(ledger, read_rows(service), None if upstream is None else list(upstream.requests), reply),
    ]


def check_database(service: Service) -> list[str]:
    """The database's own integrity check. (PostgreSQL: needs the extension amcheck, which comes with the server.)"""
    try:
        if service.database_url.startswith("sqlite"):
            verdict = service.sql("PRAGMA integrity_check")
            return [] if verdict == [("ok",)] else [f"integrity_check: {verdict[:5]}"]
        service.sql("CREATE EXTENSION IF NOT EXISTS amcheck")
        service.sql(BROKEN_INDEXES)  # fails if an index and its table differ
    except (sqlite3.Error, psycopg.Error) as problem:
        return [f"the database is damaged, or can't be read: {problem}"]
    return []


def read_rows(service: Service) -> list[Row]:
    return [Row(*row) for row in service.sql(MESSAGES)]


def sent_again(requests: Sequence[Request]) -> int:
    """The number of requests that repeat one that the upstream had not refused."""
    taken = [_marker(request.messages[-1]["content"]) for request in requests if request.status not in NOT_ACCEPTED]
    return len(taken) - len(set(taken))


def check_rows(
    ledger: Ledger, rows: Sequence[Row], requests: Sequence[Request] | None, reply: Reply | None = None
) -> list[str]:
    """The comparison itself, on plain data."""
    turns, problems = _pair(rows)
    stored: dict[str, list[Stored]] = defaultdict(list)
    for turn in turns:
        stored[_marker(turn.question.content)].append(turn)
    sent: dict[str, list[Request]] = defaultdict(list)
    for request in requests or ():
        sent[_marker(request.messages[-1]["content"])].append(request)
    for asked in ledger.asked:
        problems += _check_stored(asked, stored[asked.marker], reply)
        if requests is not None:
            problems += _check_sent(asked, sent[asked.marker], stored[asked.marker])
    return problems + _check_order(ledger, stored) + _check_histories(turns, sent)


def _marker(text: str) -> str:
    found = MARKER.findall(text)
    return found[-1] if found else ""


def _pair(rows: Sequence[Row]) -> tuple[list[Stored], list[str]]:
    """The turns of each session in order, and the problems of sessions that are no sequence of turns."""
    turns, problems = [], [f"{row.session}: {row.turn_id} is pending" for row in rows if row.status == "pending"]
    for session, group in itertools.groupby(rows, key=lambda row: (row.session, row.session_pk)):
        messages = list(group)
        shape = [(row.position, row.role) for row in messages]
        if shape != [(place, ("user", "assistant")[place % 2]) for place in range(len(shape))] or len(shape) % 2:
            problems.append(f"{session[0]}: not question and reply by turns: {shape}")
            continue
        pairs = [Stored(*messages[place : place + 2]) for place in range(0, len(messages), 2)]
        problems += [
            f"{session[0]}: turns interleaved" for turn in pairs if turn.question.turn_id != turn.reply.turn_id
        ]
        turns += pairs
    return turns, problems


def _check_stored(asked: Asked, turns: Sequence[Stored], reply: Reply | None) -> list[str]:
    """One client's answer against the stored turn."""
    name, problems = f"{asked.session} {asked.marker}", []
    if len(turns) > 1:
        problems.append(f"{name} is stored {len(turns)} times")
    if asked.told is not None:
        if not turns:
            return [f"{name} was acknowledged and is lost"]
        problems += _check_acknowledged(name, asked, turns[0])
    elif turns and asked.code in NOTHING_STORED and turns[0].reply.status == "completed":
        problems.append(f"{name} was refused as {asked.code}, and carried out")
    elif turns and asked.code and asked.turn_id and turns[0].reply.error_code not in (asked.code, "turn_interrupted"):
        problems.append(f"{name} was told {asked.code}, stored is {turns[0].reply.error_code!r}")
    if reply is not None and not reply(asked.question).startswith(asked.text):
        problems.append(f"{name} was shown {asked.text!r}")
    for turn in turns:
        if turn.question.content != asked.question or turn.question.session != asked.session:
            problems.append(f"{name} is stored as {turn.question.content!r} in {turn.question.session}")
        problems += _check_reply(name, turn.reply, None if reply is None else reply(asked.question))
    return problems


def _check_acknowledged(name: str, asked: Asked, turn: Stored) -> list[str]:
    stored = turn.reply
    if stored.status != "completed":
        return [f"{name} was acknowledged and is {stored.status}"]
    if stored.content != asked.told:
        return [f"{name} was told {asked.told!r}, stored is {stored.content!r}"]
    if asked.turn_id and stored.turn_id != asked.turn_id:
        return [f"{name} was told turn {asked.turn_id}, stored is {stored.turn_id}"]
    return []


def _check_reply(name: str, stored: Row, whole: str | None) -> list[str]:
    """A stored reply alone."""
    problems = []
    if whole is not None and stored.status == "completed" and stored.content != whole:
        problems.append(f"{name}: called complete, but is {stored.content!r} instead of {whole!r}")
    if whole is not None and not whole.startswith(stored.content):
        problems.append(f"{name}: {stored.content!r} is no beginning of {whole!r}")
    if stored.status == "interrupted" and not (stored.error_code == "turn_interrupted" and stored.may_have_been_billed):
        problems.append(f"{name}: interrupted without saying that it may have been billed ({stored.error_code!r})")
    return problems


def _check_sent(asked: Asked, requests: Sequence[Request], turns: Sequence[Stored]) -> list[str]:
    name, problems = f"{asked.session} {asked.marker}", []
    taken = [request for request in requests if request.status not in NOT_ACCEPTED]
    if len(taken) > 1:
        problems.append(f"{name} went upstream {len(taken)} times")
    if requests and not turns:
        problems.append(f"{name} went upstream and is not stored")
    if asked.told is not None and not requests:
        problems.append(f"{name} was answered and never went upstream")
    return problems


def _check_order(ledger: Ledger, stored: dict[str, list[Stored]]) -> list[str]:
    """A question that was sent after the reply to another one must be stored after it."""
    problems, sessions = [], defaultdict(list)
    for asked in ledger.asked:
        for turn in stored[asked.marker][:1]:
            sessions[turn.question.session_pk].append((turn.question.position, asked))
    for placed in sessions.values():
        newest: Asked | None = None
        for _, asked in sorted(placed, key=lambda pair: pair[0]):
            if newest is not None and asked.told is not None and asked.told_at < newest.sent_at:
                problems.append(f"{asked.session}: {asked.marker} stands after {newest.marker}, which followed it")
            if newest is None or asked.sent_at > newest.sent_at:
                newest = asked
    return problems


def _check_histories(turns: Iterable[Stored], sent: dict[str, list[Request]]) -> list[str]:
    """The history sent before a question is the end of the stored history before it, in the same order."""
    problems = []
    for _, group in itertools.groupby(turns, key=lambda turn: turn.question.session_pk):
        past: list[str] = []
        for turn in group:
            for request in sent.get(_marker(turn.question.content), []):
                history = [message["content"] for message in request.messages[:-1] if message["role"] != "system"]
                if history != past[len(past) - len(history) :] or bool(history) != bool(past):
                    problems.append(f"{turn.question.session}: before {turn.question.content!r} went {history[-4:]!r}")
            past += turn.history
    return problems
