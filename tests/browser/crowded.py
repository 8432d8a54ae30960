"""Rows for every page of the admin, each as long as it may be: what has to fit on a page."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from testing.service import Service

LONG_WORD = "Inconstitucionalissimamente" * 8  # nowhere to break it
EMOJI = "👩‍👩‍👧‍👦🏳️‍🌈🇧🇷" * 8
SENTENCE = "Renegociação do financiamento imobiliário com portabilidade de crédito e amortização extraordinária. " * 3
MODEL = ("meta-llama/" + "llama-4-maverick-17b-128e-instruct-fp8" * 5)[:200]
MANY = 14  # rows of a list
USER = 1002  # the newest
NOW = datetime.now(UTC)


def moment(**ago: float) -> str:
    return f"{NOW - timedelta(**ago):%Y-%m-%d %H:%M:%S.%f+00:00}"


def insert(service: Service, table: str, *rows: dict[str, Any]) -> None:
    """Rows with the same columns, in one statement."""
    names = list(rows[0])
    places = ", ".join([f"({', '.join(['%s'] * len(names))})"] * len(rows))
    values = [json.dumps(value) if isinstance(value, dict | list) else value for row in rows for value in row.values()]
    service.sql(f"INSERT INTO {table} ({', '.join(names)}) VALUES {places}", *values)


def fill(service: Service) -> None:
    """Sessions, turns, clients, keys, users, groups, audit entries and histories; the newest have the longest texts."""
    clients_and_keys(service)
    sessions(service)
    conversation(service, MANY)
    running(service)
    tallies(service)
    people(service)
    entries(service)


def clients_and_keys(service: Service) -> None:
    unlimited = dict.fromkeys(
        ("requests_per_minute", "turns_in_flight", "tokens_per_day", "cost_per_month", "sessions", "stored_mb")
    )
    scopes = ["chat", "sessions:read", "sessions:write", "sessions:erase", "admin:read"]
    few = {"is_active": True, "scopes": scopes, "created_at": moment(days=9), "notes": SENTENCE * 5, **unlimited}
    named = [("Portal", "canal digital"), ("ÿ" + LONG_WORD[:99], LONG_WORD[:200]), ("ÿ" + EMOJI[:99], EMOJI[:200])]
    rows = [{"id": n, "client_id": f"cliente{n:05}", "name": name, "contact": contact, **few}
            for n, (name, contact) in enumerate(named, 1)]  # fmt: skip
    insert(service, "access_client", *rows)
    old = {"secret_hash": "0" * 64, "created_at": moment(days=8), "expires_at": moment(days=-9)}
    keys = [
        {"id": n, "client_id": 1 + n % 3, "identifier": f"chave{n:07}", "label": (LONG_WORD * 4)[n : n + 100], **old,
         "last_used_at": moment(hours=n), "revoked_at": moment(hours=1) if n % 5 == 0 else None}
        for n in range(1, MANY)
    ]  # fmt: skip
    insert(service, "access_key", *keys)


def sessions(service: Service) -> None:
    owners = ("open", "byok:" + "k" * 60, "client:cliente00002")
    titles = (LONG_WORD, EMOJI, SENTENCE, "Limite do cartão", "")
    rows = [
        {
            "id": n, "owner": owners[n % 3], "session_id": f"{n:03}{'W' * 125}" if n % 2 else f"ana-{n}",
            "title": titles[n % 5][:200], "model": MODEL if n % 3 else "", "system_prompt": SENTENCE + LONG_WORD,
            "persona_id": (LONG_WORD if n % 4 == 0 else "joana")[:200], "metadata": {LONG_WORD: [LONG_WORD, EMOJI] * 3},
            "created_at": moment(days=n), "last_activity_at": moment(hours=MANY - n),
            "closed_at": moment(hours=1) if n % 7 == 0 else None, "message_count": 0,
            "prompt_tokens": 98_765_432_109 * n, "completion_tokens": 12_345_678 * n, "cost": "12345678.123456789012",
        }
        for n in range(1, MANY + 1)
    ]  # fmt: skip
    insert(service, "sessions_api_session", *rows)


def short_sessions(service: Service, count: int) -> None:
    usual = {"owner": "open", "title": "", "model": "", "system_prompt": "", "persona_id": "", "metadata": {},
             "created_at": moment(), "last_activity_at": moment(), "message_count": 0, "prompt_tokens": 0,
             "completion_tokens": 0, "cost": 0}  # fmt: skip
    insert(service, "sessions_api_session", *[{"session_id": f"curta-{n}", **usual} for n in range(count)])


def message(session: int, position: int, **fields: Any) -> dict[str, Any]:
    role = "assistant" if position % 2 else "user"
    return {
        "session_id": session, "position": position, "turn_id": f"turno{session:06}{position // 2:011}", "role": role,
        "content": "Sim.", "status": "completed", "metadata": {}, "created_at": moment(minutes=200 - position),
        "superseded_at": None, "model": MODEL, "provider": LONG_WORD[:100], "generation_id": LONG_WORD[:200],
        "finish_reason": "length", "error_code": "", "prompt_tokens": 123_456_789, "completion_tokens": 987_654_321,
        "cost": "12345678.123456789012", "latency_ms": 123_456_789, "first_token_ms": 98_765_432, "runner": "",
        "heartbeat_at": None, **fields,
    }  # fmt: skip


def conversation(service: Service, session: int) -> None:
    """The newest of two pages of messages: failures, opinions and older versions."""
    code = "| a | b |\n" + "x = " + "1" * 400
    texts = (LONG_WORD * 3, "Sim.", EMOJI * 3, code, SENTENCE)
    rows = [message(session, n, content=texts[n % 5]) for n in range(190, 210)]
    rows[-1] |= {"status": "failed", "error_code": "upstream_error_with_a_long_name"}
    for row in rows[6:10]:
        row |= {"superseded_at": moment(hours=1)}
    insert(service, "sessions_api_message", *rows)
    service.sql("UPDATE sessions_api_session SET message_count = 210, superseded_count = 4 WHERE id = %s", session)
    for position, rating in ((203, "up"), (205, "down")):
        comment = {"comment": LONG_WORD * 2, "created_at": moment(hours=1)}
        insert(
            service, "sessions_api_feedback", {"session_id": session, "position": position, "rating": rating, **comment}
        )


def running(service: Service) -> None:
    """Turns that another machine runs."""
    for session in range(3, 7):
        now = {"heartbeat_at": moment(hours=-1), "runner": f"{LONG_WORD[:80]}/ns:12345:1"}
        open_turn = message(session, 1, status="pending", content=SENTENCE * 9, **now)
        insert(service, "sessions_api_message", message(session, 0), open_turn)
        service.sql("UPDATE sessions_api_session SET message_count = 2 WHERE id = %s", session)


def tallies(service: Service) -> None:
    counted = {"turns": 123_456, "failed": 12_345, "cancelled": 999, "prompt_tokens": 98_765_432_109,
               "completion_tokens": 12_345_678_901, "cost": "12345678.12"}  # fmt: skip
    names = {"all": [""], "model": [MODEL, "x" * 200, ""], "client": ["cliente00002", "open", "byok"],
             "error": ["upstream_error", "z" * 190]}  # fmt: skip
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    rows = [
        {"grain": "hour", "start": f"{hour - timedelta(hours=h):%Y-%m-%d %H:%M:%S+00:00}", "dimension": dimension,
         "name": name, **counted, "first_token": {"20": 5, "60": 900}, "total": {"40": 5, "90": 900}}
        for h in range(1, 12) for dimension, all_names in names.items() for name in all_names
    ]  # fmt: skip
    insert(service, "sessions_api_tally", *rows)
    used = {"start": moment(hours=2), "turns": 12_345, "tokens": 98_765_432_109, "cost": "12345678.12"}
    dear = [{"session_id": n, **used} for n in range(1, 12)]
    insert(service, "sessions_api_sessioncost", *dear)


def people(service: Service) -> None:
    flags = {"is_superuser": False, "is_staff": True, "is_active": True, "password": "!"}
    users = [
        {"id": USER - n, "username": f"{n}{LONG_WORD[:140]}", "first_name": LONG_WORD[:150], "last_name": EMOJI[:150],
         "email": f"{LONG_WORD[:60]}@{LONG_WORD[:60].lower()}.example", "date_joined": moment(days=9), **flags}
        for n in range(3)
    ]  # fmt: skip
    insert(service, "auth_user", *users)
    groups = [{"id": 1000 + n, "name": f"{n}{LONG_WORD[:140]}"} for n in range(3)]
    insert(service, "auth_group", *groups)


def entries(service: Service) -> None:
    """The audit log, and the history that Django's admin keeps of each record."""
    rows = [
        {"at": moment(seconds=n), "actor": f"staff:{LONG_WORD[:150]}" if n % 2 else "open", "action": "user.changed",
         "target": f"user:{LONG_WORD[:150]}", "owner": ("client:" + "c" * 73), "request_id": "r" * 128,
         "address": "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "details": {"rights": {"permissions": [LONG_WORD] * 40}}}
        for n in range(1, MANY)
    ]  # fmt: skip
    insert(service, "access_auditentry", *rows)
    kinds = service.sql("SELECT id, model FROM django_content_type")
    newest = {"session": str(MANY), "client": "3", "key": str(MANY - 1), "user": str(USER), "group": "1002"}
    done = [
        {"action_time": moment(hours=n), "object_id": newest[model], "object_repr": LONG_WORD[:200], "action_flag": 2,
         "change_message": SENTENCE + LONG_WORD * 2, "content_type_id": kind, "user_id": 1002}
        for kind, model in kinds if model in newest for n in range(4)
    ]  # fmt: skip
    insert(service, "django_admin_log", *done)
