"""POST /sessions/{id}/fork: a copy of a conversation up to a turn, as a separate conversation."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture
def session(caller: Caller, upstream: Upstream) -> str:
    """Two turns, with their own settings."""
    session = new_id()
    for question in ("um", "dois"):
        upstream.reply(question.upper())
        caller.chat(question, session_id=session, model="test/other", system_prompt="Seja breve.")
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": f"Números {session}", "metadata": {"a": 1}}))
    return session


def forked(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 201, response.text
    return dict(response.json())


def turns(caller: Caller, session: str) -> list[str]:
    return [message["turn_id"] for message in caller.messages(session)]


def test_without_a_turn_all_is_copied(caller: Caller, session: str) -> None:
    copy = forked(caller.post(f"/sessions/{session}/fork"))
    assert caller.texts(copy["session_id"]) == ["um", "UM", "dois", "DOIS"]
    assert copy["forked_from"] == turns(caller, session)[-1]
    original = caller.session(session)
    for name in ("title", "model", "system_prompt", "persona_id", "metadata", "message_count"):
        assert copy[name] == original[name], name
    assert copy == {name: caller.session(copy["session_id"])[name] for name in copy}


def test_up_to_a_turn(caller: Caller, session: str) -> None:
    first = turns(caller, session)[0]
    copy = forked(caller.post(f"/sessions/{session}/fork", after_turn=first, session_id=f"{session}-b"))
    assert copy["session_id"] == f"{session}-b"
    assert caller.texts(f"{session}-b") == ["um", "UM"]
    assert caller.texts(session) == ["um", "UM", "dois", "DOIS"]


def test_null_copies_what_is_set_and_nothing_that_was_said(caller: Caller, session: str) -> None:
    copy = forked(caller.post(f"/sessions/{session}/fork", after_turn=None))
    assert caller.texts(copy["session_id"]) == []
    assert (copy["system_prompt"], copy["forked_from"]) == ("Seja breve.", "")


def test_both_go_on_by_themselves(caller: Caller, upstream: Upstream, session: str) -> None:
    copy = forked(caller.post(f"/sessions/{session}/fork", after_turn=turns(caller, session)[0]))["session_id"]
    upstream.reply("TRÊS")
    caller.chat("três", session_id=copy)
    assert [message["content"] for message in upstream.requests[-1].messages] == ["Seja breve.", "um", "UM", "três"]
    assert upstream.requests[-1].body["model"] == "test/other"
    assert caller.texts(session) == ["um", "UM", "dois", "DOIS"]


def test_what_was_paid_once_is_not_counted_twice(caller: Caller, session: str) -> None:
    copy = forked(caller.post(f"/sessions/{session}/fork"))
    assert copy["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0}
    assert [message["usage"] for message in caller.messages(copy["session_id"])] == [None] * 4


def test_copied_turns_have_ids_of_their_own(caller: Caller, session: str) -> None:
    copy = forked(caller.post(f"/sessions/{session}/fork"))["session_id"]
    copied = turns(caller, copy)
    assert copied[0] == copied[1] != copied[2] == copied[3]
    assert not set(copied) & set(turns(caller, session))
    assert good(caller.get(f"/turns/{copied[0]}"))["session_id"] == copy


def test_superseded_messages_are_left_behind(caller: Caller, upstream: Upstream, session: str) -> None:
    upstream.reply("DOIS B")
    caller.chat("dois b", session_id=session, after_turn=turns(caller, session)[0])
    copy = forked(caller.post(f"/sessions/{session}/fork"))
    assert caller.texts(copy["session_id"]) == ["um", "UM", "dois b", "DOIS B"]
    assert copy["message_count"] == 4


def test_a_running_turn_is_not_copied(caller: Caller, upstream: Upstream, session: str) -> None:
    upstream.script(scenarios.hang(after="Um "))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(caller.chat, "três", session_id=session)
        wait_until(lambda: len(caller.texts(session)) == 6)
        turn = turns(caller, session)[-1]
        problem(caller.post(f"/sessions/{session}/fork", after_turn=turn), 409, "session_busy")
        copy = forked(caller.post(f"/sessions/{session}/fork"))["session_id"]
        good(caller.post(f"/turns/{turn}/cancel"))
        running.result()
    assert caller.texts(copy) == ["um", "UM", "dois", "DOIS"]


def test_a_long_conversation_is_copied_whole(caller: Caller, service: Service, session: str) -> None:
    long_conversation(service, session)
    copy = forked(caller.post(f"/sessions/{session}/fork"))
    assert copy["message_count"] == 1204
    last = good(caller.get(f"/sessions/{copy['session_id']}/messages", order="desc", limit=3))["data"]
    assert [message["content"] for message in last] == ["Texto 1203", "Texto 1202", "Texto 1201"]


def copies_of(service: Service, session: str) -> int:
    """All copies, complete or not: only they have the session's title."""
    titled = service.sql("SELECT session_id FROM sessions_api_session WHERE title = %s", f"Números {session}")
    return sum(name != session for (name,) in titled)


def long_conversation(service: Service, session: str) -> None:
    """1,200 more messages."""
    (pk,) = service.sql("SELECT id FROM sessions_api_session WHERE session_id = %s", session)[0]
    service.sql(
        "WITH RECURSIVE n(p) AS (SELECT 4 UNION ALL SELECT p + 1 FROM n WHERE p < 1203) "
        "INSERT INTO sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at) "
        "SELECT session_id, p, 't' || p, role, 'Texto ' || p, status, metadata, created_at "
        "FROM sessions_api_message, n WHERE session_id = %s AND position = 0",
        pk,
    )
    service.sql("UPDATE sessions_api_session SET message_count = 1204 WHERE id = %s", pk)


@pytest.mark.parametrize("body", [{"after_turn": "nenhum"}, {"after_turn": "x" * 65}, {"session_id": "a b"}])
def test_what_can_t_be_copied_leaves_nothing(caller: Caller, session: str, body: dict[str, str]) -> None:
    before = good(caller.get("/api/sessions"))["count"]
    assert caller.post(f"/sessions/{session}/fork", **body).status_code in (400, 404)
    assert good(caller.get("/api/sessions"))["count"] == before


def test_an_id_that_is_taken_is_refused(caller: Caller, session: str) -> None:
    problem(caller.post(f"/sessions/{session}/fork", session_id=session), 409, "session_exists")
    assert caller.texts(session) == ["um", "UM", "dois", "DOIS"]


def test_the_audit_log_knows_of_it(caller: Caller, service: Service, session: str) -> None:
    copy = forked(caller.post(f"/sessions/{session}/fork"))["session_id"]
    told = service.sql("SELECT details FROM access_auditentry WHERE target = %s AND action = 'session.forked'", copy)
    assert len(told) == 1
    assert session in str(told)


def test_a_copy_of_a_conversation_that_moves_is_one_moment_of_it(caller: Caller, session: str) -> None:
    """Turns run and supersede each other during copies: no copy has a running turn, or two versions."""
    first, done = turns(caller, session)[0], threading.Event()

    def go_on() -> None:
        while not done.is_set():
            caller.chat("três", session_id=session, after_turn=first)

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        copies = [forked(caller.post(f"/sessions/{session}/fork"))["session_id"] for _ in range(25)]
        done.set()
        going.result()
    for copy in copies:
        messages = caller.messages(copy)
        assert {message["status"] for message in messages} == {"completed"}
        assert [message["content"] for message in messages][:3:2] in (["um", "dois"], ["um", "três"], ["um"])
        assert len(messages) <= 4
        good(caller.post("/chat", message="e", session_id=copy))


def test_nothing_is_left_of_a_copy_whose_session_goes_meanwhile(service: Service, caller: Caller, session: str) -> None:
    long_conversation(service, session)
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(caller.post, f"/sessions/{session}/fork")
        wait_until(lambda: copies_of(service, session) == 1 or copying.done())
        caller.call("DELETE", f"/sessions/{session}?erase=true")
        answer = copying.result()
    if answer.status_code != 201:  # it was complete before
        problem(answer, 404, "session_not_found")
        assert copies_of(service, session) == 0
