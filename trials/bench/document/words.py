"""Runs for `trials.bench.search` in a separate process, with Django set up for the measured database."""

import itertools
import random
import statistics as averages
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import partial

from django.core.management import call_command
from django.db import connection

from sessions_api import search
from sessions_api.models import Session

MESSAGES, WORDS, TEXTS, ROUNDS = 20, 30_000, 10_000, 7  # a session's, and of all
SYLLABLES = [consonant + vowel for consonant in "bcdfglmnprstvz" for vowel in ("a", "e", "i", "o", "u", "ã", "é", "ç")]
GONE = "antigamente"  # a common word of the older sessions alone
BIG, MEDIUM = "open", "client:medium"
SESSION_ROWS = """
INSERT INTO sessions_api_session (owner, session_id, title, model, system_prompt, persona_id, metadata, created_at,
    last_activity_at, message_count, prompt_tokens, completion_tokens, cost)
SELECT CASE WHEN i % 50 = 0 THEN 'client:' || i WHEN i % 50 IN (10, 20, 30) THEN '{medium}' ELSE '{big}' END,
    's' || i, 'Conversa ' || i, '', '', '', '{{}}', {moment}, {moment}, {messages}, 0, 0, 0 FROM numbers
"""
MESSAGE_ROWS = """
INSERT INTO sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at)
SELECT id, i, 't' || (i / 2), CASE i % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, (SELECT said FROM bench_texts
    WHERE place = ((id * 7919 + i * 4099 + id / 7) % {texts} / 2) * 2 + i % 2) ||
    CASE WHEN id < {old} AND (id + i) % 5 = 0 THEN ' {gone}' ELSE '' END, 'completed', '{{}}', created_at
FROM sessions_api_session CROSS JOIN numbers
"""
NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}) "
MOMENT = {
    "sqlite": "datetime('2026-01-01', i || ' seconds')",
    "postgresql": "timestamptz '2026-01-01 00:00:00Z' + i * interval '1 second'",
}


def main(sessions: int) -> None:
    for app in ("access", "sessions_api"):
        call_command("migrate", app, *(["0004_people"] if app == "sessions_api" else []), verbosity=0)
    print(f"\n{connection.vendor}: {sessions * MESSAGES:,} messages in {sessions:,} sessions", flush=True)
    ranked = fill(sessions)
    print(f"  filled in {timed(settle):.0f} s more", flush=True)
    print(f"  migration: {timed(lambda: call_command('migrate', verbosity=0)):.1f} s", flush=True)
    print(f"  bringing the index up to date: {timed(lambda: search.catch_up(1e9)):.1f} s", flush=True)
    settle()
    for what, question in questions(ranked):
        times = [f"{name} {p50:.1f} (most {most:.1f})" for name, (p50, most) in times_of(question).items()]
        print(f"  {what:40} ms: {', '.join(times)}", flush=True)


def fill(sessions: int) -> list[str]:
    """Returns the words, the most frequent one first."""
    chance = random.Random(5)
    texts = make_texts(chance)
    own = {"big": BIG, "medium": MEDIUM, "messages": MESSAGES, "texts": TEXTS, "gone": GONE, "old": sessions * 4 // 5}
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
        cursor.execute("CREATE TABLE bench_texts (place integer PRIMARY KEY, said text)")
        cursor.executemany("INSERT INTO bench_texts VALUES (%s, %s)", list(enumerate(texts)))
        moment = MOMENT[connection.vendor]
        cursor.execute(NUMBERS.format(first=1, last=sessions) + SESSION_ROWS.format(moment=moment, **own))
        cursor.execute(NUMBERS.format(first=0, last=MESSAGES - 1) + MESSAGE_ROWS.format(**own))
    counts = Counter(itertools.chain.from_iterable(set(plain(text).split()) for text in texts))
    return [word for word, _ in counts.most_common()]


def make_texts(chance: random.Random) -> list[str]:
    """Questions of 5 to 25 words, and replies of 40 to 160, in turn."""
    words = list(dict.fromkeys("".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(2 * WORDS)))
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(WORDS)))
    lengths = (chance.randint(40, 160) if place % 2 else chance.randint(5, 25) for place in range(TEXTS))
    return [" ".join(chance.choices(words[:WORDS], cum_weights=weights, k=length)).capitalize() for length in lengths]


def plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def settle() -> None:
    """Does autovacuum's work now, not in the middle of the measurement."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)")


def questions(ranked: list[str]) -> list[tuple[str, str]]:
    common, often, seldom, rare = ranked[0], ranked[100], ranked[2000], ranked[15000]
    other = next(word for word in ranked[3:] if len(word) > search.TYPED_LETTERS)
    return [
        ("a word of most messages", f"{common} "),
        ("a word of one message in twenty", f"{often} "),
        ("a word of one message in 300", f"{seldom} "),
        ("a rare word", f"{rare} "),
        ("no such word", "inexistente "),
        ("a common and a rare word", f"{common} {rare} "),
        ("two words, often together", f"{ranked[100]} {ranked[101]} "),
        ("ten common words", " ".join(ranked[:10]) + " "),
        (f"{search.TYPED_LETTERS} letters of a common word", other[: search.TYPED_LETTERS]),
        (f"{search.TYPED_LETTERS} letters of a rare word", rare[: search.TYPED_LETTERS]),
        ("a common word not used any more", f"{GONE} "),
    ]


def times_of(question: str) -> dict[str, tuple[float, float]]:
    """Milliseconds, the median and the longest, by owner."""
    owners = {"one owner's": BIG, "a medium one's": MEDIUM, "a small one's": "client:50", "all": None}
    found = {}
    for name, owner in owners.items():
        times = [timed(partial(first_page, owner, question)) * 1000 for _ in range(ROUNDS)]
        found[name] = (averages.median(times), max(times))
    return found


def first_page(owner: str | None, question: str) -> list[Session]:
    sessions = Session.objects.filter(closed_at=None)
    sessions = search.matching(sessions.filter(owner=owner) if owner else sessions, owner, question)
    return list(sessions.order_by("-last_activity_at", "-pk")[:21])


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
