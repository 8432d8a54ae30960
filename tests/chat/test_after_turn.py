"""A turn that names the turn it follows: try again, edit and resend, start over. The record stays a line."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def converse(caller: Caller, upstream: Upstream, session: str, *questions: str, **body: Any) -> list[str]:
    """The ids of turns, each of which is answered with its question in upper case."""
    turns = []
    for question in questions:
        upstream.reply(question.upper())
        turns.append(caller.chat(question, session_id=session, **body)["turn_id"])
    return turns


def sent(upstream: Upstream) -> list[str]:
    return [message["content"] for message in upstream.requests[-1].messages]


def kept(caller: Caller, session: str) -> list[tuple[str, bool]]:
    """The whole record: texts, and whether they are superseded."""
    messages = good(caller.get(f"/sessions/{session}/messages", include="superseded"))["data"]
    return [(message["content"], message["superseded_at"] is not None) for message in messages]


def test_another_question_takes_the_place_of_what_came_after(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    first, *_ = converse(caller, upstream, session, "um", "dois", "três")
    converse(caller, upstream, session, "outra", after_turn=first)
    assert sent(upstream) == ["um", "UM", "outra"]
    assert caller.texts(session) == ["um", "UM", "outra", "OUTRA"]
    past = [("dois", True), ("DOIS", True), ("três", True), ("TRÊS", True)]
    assert kept(caller, session) == [("um", False), ("UM", False), *past, ("outra", False), ("OUTRA", False)]


def test_null_is_the_conversation_s_start(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    converse(caller, upstream, session, "um", "dois")
    converse(caller, upstream, session, "de novo", after_turn=None)
    assert sent(upstream) == ["de novo"]
    assert caller.texts(session) == ["de novo", "DE NOVO"]
    assert caller.session(session)["message_count"] == 6


def test_a_conversation_that_goes_on_at_its_end_supersedes_nothing(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    *_, last = converse(caller, upstream, session, "um", "dois")
    converse(caller, upstream, session, "três", after_turn=last)
    assert sent(upstream) == ["um", "UM", "dois", "DOIS", "três"]
    assert not any(superseded for _, superseded in kept(caller, session))


def test_a_new_conversation_may_begin_at_its_start(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    converse(caller, upstream, session, "um", after_turn=None)
    assert caller.texts(session) == ["um", "UM"]


def test_it_can_be_edited_again_and_again(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    first, second = converse(caller, upstream, session, "um", "dois")
    converse(caller, upstream, session, "um b", "dois b", after_turn=first)
    converse(caller, upstream, session, "três")
    assert sent(upstream) == ["um", "UM", "dois b", "DOIS B", "três"]
    problem(caller.post("/chat", message="x", session_id=session, after_turn=second), 404, "turn_not_found")


@pytest.mark.parametrize("known", [True, False])
def test_a_turn_that_is_not_there_can_t_be_followed(caller: Caller, upstream: Upstream, known: bool) -> None:
    session, elsewhere = new_id(), new_id()
    (other,) = converse(caller, upstream, elsewhere, "um")
    if known:
        converse(caller, upstream, session, "um")
    before, asked = kept(caller, session) if known else [], upstream.count
    for turn in ("nenhum", other):
        problem(caller.post("/chat", message="x", session_id=session, after_turn=turn), 404, "turn_not_found")
    assert upstream.count == asked
    assert (kept(caller, session) if known else []) == before
    assert caller.get(f"/sessions/{session}").status_code == (200 if known else 404)


def test_nobody_follows_somebody_else_s_turn(caller: Caller, service: Service, upstream: Upstream) -> None:
    session = new_id()
    (turn,) = converse(caller, upstream, session, "um")
    stranger = Caller(service)
    problem(stranger.post("/chat", message="x", session_id=session, after_turn=turn), 404, "turn_not_found")
    assert caller.texts(session) == ["um", "UM"]


def test_it_waits_for_a_running_turn_and_then_takes_its_place(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    first, *_ = converse(caller, upstream, session, "um")
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("ta"), after="len"))
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(caller.chat, "dois", session_id=session)
        wait_until(lambda: upstream.count == 2)
        upstream.reply("FIM")
        again = pool.submit(caller.chat, "dois b", session_id=session, after_turn=first)
        gate.set()
        assert running.result()["response"] == "lenta"
        assert again.result()["response"] == "FIM"
    assert caller.texts(session) == ["um", "UM", "dois b", "FIM"]


def test_the_same_key_supersedes_once(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    first, *_ = converse(caller, upstream, session, "um", "dois")
    body = {"message": "dois b", "session_id": session, "after_turn": first}
    keyed = {"headers": {**caller.headers, "Idempotency-Key": "k"}}
    answers = [good(caller.call("POST", "/chat", json=body, **keyed)) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(kept(caller, session)) == 6
    other = caller.call("POST", "/chat", json=body | {"after_turn": None}, **keyed)
    problem(other, 422, "idempotency_mismatch")


def test_totals_keep_what_superseded_turns_took(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    answer = caller.chat("um", session_id=session)
    caller.chat("um", session_id=session, after_turn=None)
    assert caller.session(session)["usage"]["total_tokens"] == 2 * answer["usage"]["total_tokens"]


def test_the_bank_s_assistant_takes_it_too(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    good(caller.post("/api/message", message="um", session_id=session))
    good(caller.post("/api/message", message="um b", session_id=session, after_turn=None))
    assert caller.texts(session)[::2] == ["um b"]


@pytest.fixture(scope="module")
def short(services: Services) -> Iterator[Service]:
    with services.own(HISTORY_MAX_MESSAGES="4") as service:
        yield service


def test_superseded_messages_take_no_room_in_the_history(short: Service, upstream: Upstream) -> None:
    caller, session = Caller(short), new_id()
    turns = converse(caller, upstream, session, "um", "dois", "três")
    for _ in range(4):
        converse(caller, upstream, session, "quatro", after_turn=turns[-1])
    upstream.reply("FIM")
    answer = caller.post("/chat", message="cinco", session_id=session)
    assert sent(upstream) == ["três", "TRÊS", "quatro", "QUATRO", "cinco"]
    assert answer.headers["x-history-omitted"] == "4"
    upstream.reply("FIM")
    answer = caller.post("/chat", message="cinco", session_id=session, after_turn=turns[1])
    assert sent(upstream) == ["um", "UM", "dois", "DOIS", "cinco"]
    assert "x-history-omitted" not in answer.headers


def test_what_would_supersede_very_much_is_refused(caller: Caller, service: Service, upstream: Upstream) -> None:
    """All other turns would wait for it. A copy of the session avoids that."""
    session = new_id()
    (first,) = converse(caller, upstream, session, "um")
    (pk,) = service.sql("SELECT id FROM sessions_api_session WHERE session_id = %s", session)[0]
    service.sql(
        "WITH RECURSIVE n(p) AS (SELECT 2 UNION ALL SELECT p + 1 FROM n WHERE p < 2002) "
        "INSERT INTO sessions_api_message (session_id, position, turn_id, role, content, status, metadata, created_at) "
        "SELECT session_id, p, 't' || p, role, 'Texto ' || p, status, metadata, created_at "
        "FROM sessions_api_message, n WHERE session_id = %s AND position = 0",
        pk,
    )
    service.sql("UPDATE sessions_api_session SET message_count = 2003 WHERE id = %s", pk)
    refused = caller.post("/chat", message="x", session_id=session, after_turn=first)
    assert "after_turn" in problem(refused, 400, "invalid_request")["errors"]
    good(caller.post("/chat", message="x", session_id=session, after_turn="t3"))
    problem(caller.post("/chat", message="x", session_id=session, after_turn=None), 400, "invalid_request")
