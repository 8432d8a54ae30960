"""Fills a database with conversations in a few statements, in SQL that SQLite and PostgreSQL share."""

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Any

import psycopg

from trials.bench.load import QUESTION
from trials.bench.upstream import MODEL, REPLY

OWNER = "open"  # who calls without a key
SECONDS_LATER = {
    "sqlite": "datetime('2026-01-01', i || ' seconds')",
    "postgresql": "timestamptz '2026-01-01 00:00:00Z' + i * interval '1 second'",
}
NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}) "
ADD_SESSIONS = """
INSERT INTO sessions_api_session (owner, session_id, title, model, system_prompt, persona_id, metadata, created_at,
    last_activity_at, message_count, prompt_tokens, completion_tokens, cost)
SELECT '{owner}', '{name}-' || i, '', '{model}', '', '', '{{}}', {moment}, {moment}, {messages}, 0, 0, 0 FROM numbers
"""
ADD_MESSAGES = """
INSERT INTO sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at,
    completed_at, model, prompt_tokens, completion_tokens, cost, latency_ms)
SELECT id, i, substr(md5(id || ':' || (i / 2)), 1, 22), CASE i & 1 WHEN 0 THEN 'user' ELSE 'assistant' END,
    CASE i & 1 WHEN 0 THEN '{question}' ELSE '{reply}' END, 'completed', '{{}}', created_at, created_at,
    CASE i & 1 WHEN 0 THEN '' ELSE '{model}' END, CASE i & 1 WHEN 1 THEN 420 END, CASE i & 1 WHEN 1 THEN 48 END,
    CASE i & 1 WHEN 1 THEN 0.000123 END, CASE i & 1 WHEN 1 THEN 900 END
FROM sessions_api_session CROSS JOIN numbers WHERE session_id LIKE '{name}-%'
"""


@dataclass(frozen=True)
class Filling:
    """So many sessions with so many messages each, alternating questions and replies."""

    name: str
    sessions: int
    messages: int

    @property
    def session_ids(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.sessions)]

    @property
    def conversation(self) -> list[dict[str, str]]:
        turn = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": REPLY}]
        return turn * (self.messages // 2)

    def statements(self, dialect: str) -> list[str]:
        values: dict[str, Any] = {"owner": OWNER, "name": self.name, "model": MODEL, "messages": self.messages}
        sessions = ADD_SESSIONS.format(moment=SECONDS_LATER[dialect], **values)
        messages = ADD_MESSAGES.format(question=QUESTION, reply=REPLY, **values)
        return [
            NUMBERS.format(last=self.sessions - 1) + sessions,
            NUMBERS.format(last=self.messages - 1) + messages,
        ]


def fill_sqlite(connection: sqlite3.Connection, fillings: list[Filling]) -> None:
    connection.create_function("md5", 1, lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        for filling in fillings:
            for statement in filling.statements("sqlite"):
                connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill_postgresql(connection: psycopg.Connection, fillings: list[Filling]) -> None:
    """The connection commits by itself. Does autovacuum's work now, not in the middle of a run."""
    connection.execute("SET session_replication_role = replica")  # no look at the foreign key for each row
    for filling in fillings:
        for statement in filling.statements("postgresql"):
            connection.execute(statement.encode())
    connection.execute("VACUUM (ANALYZE) sessions_api_session, sessions_api_message")
    connection.execute("CHECKPOINT")
