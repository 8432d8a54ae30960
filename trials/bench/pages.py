"""Runs for `trials.bench.console` in a separate process, with Django set up for the measured database."""

import statistics as averages
import sys
import time

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from sessions_api.statistics import tallies

MESSAGES = 1_000_000
DAYS, CLIENTS, MODELS, ROUNDS = 30, 200, 10, 15
PAGES = [f"/admin/overview/?period={name}" for name in ("24h", "yesterday", "7d", "30d")] + ["/admin/running/"]
MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', {seconds}, 'unixepoch')",
    "postgresql": "to_timestamp({seconds})",
}
NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}) "
SESSIONS = """
INSERT INTO sessions_api_session (owner, session_id, title, model, system_prompt, persona_id, metadata, created_at,
    last_activity_at, message_count, prompt_tokens, completion_tokens, cost)
SELECT 'client:' || (i * 7919 % {clients}), 's' || i, 'Conversa ' || i, 'm/' || (i % {models}), '', '', '{{}}',
    {began}, {ended}, {messages}, 0, 0, 0 FROM numbers
"""
TURNS = """
INSERT INTO sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at,
    completed_at, model, prompt_tokens, completion_tokens, cost, first_token_ms, latency_ms, error_code, runner)
SELECT s.id, i, substr(s.session_id || '.' || (i / 2), 1, 22), CASE i % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
    'Qual é o limite do Pix? O limite depende do horário e do canal.',
    CASE WHEN i % 2 = 1 AND (s.id * 31 + i) % 40 < 2 THEN 'failed' ELSE 'completed' END, '{{}}', {moment}, {moment},
    CASE i % 2 WHEN 0 THEN '' ELSE s.model END, CASE i % 2 WHEN 1 THEN 420 + s.id % 900 END,
    CASE i % 2 WHEN 1 THEN 48 + s.id % 300 END, CASE i % 2 WHEN 1 THEN 0.000001 * (s.id * 7919 % 5000) END,
    CASE i % 2 WHEN 1 THEN 150 + (s.id * 104729 + i * 7919) % 3000 END,
    CASE i % 2 WHEN 1 THEN 400 + (s.id * 7919 + i * 104729) % 40000 END,
    CASE WHEN i % 2 = 1 AND (s.id * 31 + i) % 40 < 2 THEN 'code_' || (s.id % 6) ELSE '' END,
    CASE i % 2 WHEN 1 THEN 'host/1:2:3' ELSE '' END
FROM sessions_api_session s CROSS JOIN numbers
"""


def fill(sessions: int) -> None:
    """Sessions that began one after the other over the days, with a minute between two turns."""
    length = MESSAGES // sessions
    span = DAYS * 86_400 - 60 * length
    first = time.time() - DAYS * 86_400
    moment = MOMENT[connection.vendor]
    began = moment.format(seconds=f"{first} + i * {span / sessions}")
    ended = moment.format(seconds=f"{first} + i * {span / sessions} + {30 * length}")
    said = moment.format(
        seconds=f"{first} + (s.id - (SELECT min(id) FROM sessions_api_session)) * {span / sessions} + 30 * i"
    )
    shared = {"clients": CLIENTS, "models": MODELS, "messages": length, "began": began, "ended": ended, "moment": said}
    with connection.cursor() as cursor:
        cursor.execute(NUMBERS.format(last=sessions - 1) + SESSIONS.format(**shared))
        cursor.execute(NUMBERS.format(last=length - 1) + TURNS.format(**shared))
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM (ANALYZE) sessions_api_session, sessions_api_message")


def milliseconds(client: Client, page: str) -> list[float]:
    """The times of each round but the first, which compiles templates and fills caches."""
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        answer = client.get(page)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.status_code
    return taken[1:]


def main(sessions: int) -> None:
    call_command("migrate", verbosity=0)
    fill(sessions)
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    began = time.perf_counter()
    while not tallies.count_ended():
        pass
    seconds = time.perf_counter() - began
    tallies.purge()
    print(f"{connection.vendor}, {sessions:,} sessions: all turns counted in {seconds:.1f} s (half of it waiting)")
    for page in PAGES:
        taken = milliseconds(client, page)
        print(f"  {page:<36} median {averages.median(taken):6.1f} ms, slowest {max(taken):6.1f} ms", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
