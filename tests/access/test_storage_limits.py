"""OWNER_SESSIONS and OWNER_STORED_MB on every way to store something, as callers meet them."""

import subprocess
import sys
from typing import Any

import pytest

from access.callers import byok_caller, usual_limits
from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.environment import ROOT, clean_environment
from testing.service import Service
from testing.upstream import Upstream
from tests.support.keys import Client

EMOJI = "😀"  # four bytes
MOST_CHARS = 100_000


def stored(service: Service, owner: str) -> tuple[int, int]:
    """The owner's sessions and messages."""
    [row] = service.sql(
        "SELECT COUNT(*), COALESCE(SUM(message_count), 0) FROM sessions_api_session WHERE owner = %s", owner
    )
    return int(row[0]), int(row[1])


@pytest.fixture
def client(service: Service, upstream: Upstream) -> Client:
    """One that may have two sessions, and a megabyte."""
    upstream.otherwise = scenarios.ok("Olá")
    return Client(service, sessions=2, stored_mb=1)


def test_no_way_begins_a_session_beyond_the_limit(service: Service, client: Client, upstream: Upstream) -> None:
    caller, other = client.caller(), client.caller()  # two keys, one owner
    sessions = [str(good(one.post("/chat", message="Oi"))["session_id"]) for one in (caller, other)]
    asked = upstream.count
    beyond: list[tuple[str, dict[str, Any]]] = [
        *(
            (path, {"message": "Oi", "stream": stream})
            for path in ("/chat", "/api/message")
            for stream in (True, False)
        ),
        ("/chat", {"message": "Oi", "session_id": new_id()}),
        (f"/sessions/{sessions[0]}/fork", {}),
        (f"/sessions/{sessions[0]}/fork", {"after_turn": None}),
    ]
    for path, body in beyond:
        refused = other.post(path, **body)
        error = problem(refused, 402, "budget_exhausted")
        assert (error["limit"], error["wanted"], "retry_after" in error) == ("sessions", 1, False)
        assert "retry-after" not in refused.headers
    assert stored(service, client.owner) == (2, 4)
    assert upstream.count == asked
    for session in sessions:
        good(caller.post("/chat", message="Oi", session_id=session))
    good(caller.call("DELETE", f"/sessions/{sessions[0]}"))
    assert problem(other.post("/chat", message="Oi"), 402, "budget_exhausted")["limit"] == "sessions"
    good(caller.call("DELETE", f"/sessions/{sessions[1]}?erase=true"))
    good(other.post("/chat", message="Oi"))


def test_no_way_stores_more_text_than_the_limit(service: Service, client: Client, upstream: Upstream) -> None:
    caller, session = client.caller(), new_id()
    turn = caller.chat("Oi", session_id=session)["turn_id"]
    for _ in range(2):
        good(caller.post("/chat", message=EMOJI * MOST_CHARS, session_id=session))
    large, asked, before = EMOJI * (MOST_CHARS - 1), upstream.count, stored(service, client.owner)
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/chat", {"message": large, "session_id": session}),
        ("POST", "/chat", {"message": "Oi", "system_prompt": large}),
        ("POST", "/chat", {"message": large, "session_id": session, "after_turn": turn}),
        ("POST", "/api/message", {"message": large, "stream": True}),
        ("PATCH", f"/sessions/{session}", {"system_prompt": large}),
        ("POST", f"/sessions/{session}/fork", {}),
    ]
    for method, path, body in writes:
        answer = caller.call(method, path, json=body, headers={"Accept-Language": "en"})
        error = problem(answer, 402, "budget_exhausted")
        assert error["limit"] == "stored_mb"
        assert error["detail"].startswith("You have stored as much text")
        assert 0.3 < error["wanted"] < 1.1
    assert (stored(service, client.owner), upstream.count) == (before, asked)
    assert "texto" in problem(caller.post("/chat", message=large), 402, "budget_exhausted")["detail"]
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": "Cheia", "metadata": {"a": 1}}))
    good(caller.post("/chat", message="Oi", session_id=session))  # there is room for little


def test_metadata_and_opinions_need_room_too(service: Service, client: Client, upstream: Upstream) -> None:
    caller, session = client.caller(), new_id()
    turn = caller.chat("Oi", session_id=session)["turn_id"]
    service.sql("UPDATE access_stored SET size = 998000 WHERE owner = %s RETURNING owner", client.owner)
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("PATCH", f"/sessions/{session}", {"metadata": {"a": "x" * 3000}}),
        ("POST", f"/messages/{turn}.1/feedback", {"rating": "up", "comment": "ç" * 1500}),
        ("POST", "/api/message", {"message": "Oi", "session_id": session, "timing_metadata": {"a": "x" * 3000}}),
    ]
    for method, path, body in writes:
        assert problem(caller.call(method, path, json=body), 402, "budget_exhausted")["limit"] == "stored_mb"
    assert good(caller.get(f"/sessions/{session}"))["metadata"] == {}
    good(caller.post(f"/messages/{turn}.1/feedback", rating="up", comment="curto"))
    good(caller.post(f"/messages/{turn}.1/feedback", rating="up", comment="curto"))
    good(caller.post(f"/messages/{turn}.1/feedback", rating=None))


def test_replies_count(service: Service, upstream: Upstream) -> None:
    caller = Client(service, stored_mb=1).caller()
    upstream.otherwise = scenarios.ok("x" * 600_000)
    for _ in range(2):  # a reply counts when it has ended, so that the last one may go beyond
        good(caller.post("/chat", message="Oi"))
    problem(caller.post("/chat", message="Oi"), 402, "budget_exhausted")


def test_a_provider_s_key_that_the_provider_refuses_is_counted_all_the_same(
    service: Service, upstream: Upstream
) -> None:
    upstream.script(scenarios.status(401))
    caller = Caller(service)
    problem(caller.post("/chat", message="x" * 5000), 401, "provider_auth_failed")
    owner = byok_owner(service, caller)
    service.sql("UPDATE access_stored SET size = 499999000 WHERE owner = %s RETURNING owner", owner)
    assert problem(caller.post("/chat", message="x" * 5000), 402, "budget_exhausted")["limit"] == "stored_mb"
    service.sql("UPDATE access_stored SET size = 0, sessions = 10000 WHERE owner = %s RETURNING owner", owner)
    assert problem(caller.post("/chat", message="Oi"), 402, "budget_exhausted")["limit"] == "sessions"


def byok_owner(service: Service, caller: Caller) -> str:
    session = str(good(caller.get("/sessions"))["data"][0]["session_id"])
    [[owner]] = service.sql("SELECT owner FROM sessions_api_session WHERE session_id = %s", session)
    return str(owner)


def test_only_a_provider_s_key_has_limits_unless_they_are_set(settings: Any) -> None:
    assert not usual_limits().limit_storage
    assert byok_caller("sk-x").limits[4:] == (10_000, 500)
    program = "from bancobot_project import settings as s; print(s.BYOK_SESSIONS, s.BYOK_STORED_MB, s.OWNER_STORED_MB)"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env=clean_environment(OWNER_SESSIONS="0", OWNER_STORED_MB="7"),
    )  # fmt: skip
    assert answer.stdout == "0 7 7\n"
