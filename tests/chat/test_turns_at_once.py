"""Messages to one session at once, and more turns than allowed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.services import Services


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def two_at_once(caller: Caller, session: str) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda text: caller.chat(text, session_id=session), ["Um", "Dois"]))


def assert_one_after_the_other(caller: Caller, session: str) -> None:
    messages = caller.messages(session)
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    first, second = messages[0]["content"], messages[2]["content"]
    assert {first, second} == {"Um", "Dois"}
    # The echo counts its messages: the second request had the first one's question and reply.
    assert [messages[1]["content"], messages[3]["content"]] == [f"Eco (1): {first}", f"Eco (3): {second}"]


def test_two_messages_at_once_are_answered_one_after_the_other(caller: Caller, upstream: Upstream) -> None:
    sessions = [new_id() for _ in range(20)]
    for session in sessions:
        answers = two_at_once(caller, session)
        assert {answer["session_id"] for answer in answers} == {session}
        assert_one_after_the_other(caller, session)
    assert upstream.count == 40


def test_two_messages_at_once_are_ordered_across_processes(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service(workers=2))
    sessions = [new_id() for _ in range(30)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda session: two_at_once(caller, session), sessions))
    for session in sessions:
        assert_one_after_the_other(caller, session)
    assert upstream.count == 60


def test_many_messages_to_one_session_are_all_answered_in_turn(caller: Caller) -> None:
    session = new_id()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: caller.chat(f"Mensagem {number}", session_id=session), range(12)))
    replies = [message["content"] for message in caller.messages(session) if message["role"] == "assistant"]
    assert [reply.split(":")[0] for reply in replies] == [f"Eco ({2 * place + 1})" for place in range(12)]


def test_a_session_that_stays_busy_is_409_with_retry_after(tuned_service: Service, upstream: Upstream) -> None:
    caller, gate, session = Caller(tuned_service), threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.chat, "Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        refused = caller.post("/chat", message="Dois", session_id=session)
        gate.set()
        assert first.result()["response"] == "Enfim"
    body = problem(refused, 409, "session_busy")
    assert int(refused.headers["retry-after"]) == body["retry_after"] >= 1
    assert upstream.count == 1
    assert caller.texts(session) == ["Um", "Enfim"]
    assert caller.chat("Três", session_id=session)["response"] == "Eco (4): Três"


@pytest.mark.parametrize("path", ["/chat", "/api/message"])
def test_who_does_not_want_to_wait_is_told_at_once(caller: Caller, upstream: Upstream, path: str) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.chat, "Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        for _ in range(3):  # the gate is shut: a waiting request would last until the client gives up
            problem(caller.post(path, message="Dois", session_id=session, on_busy="reject"), 409, "session_busy")
        gate.set()
        first.result()
    assert good(caller.post(path, message="Três", session_id=session, on_busy="reject"))["session_id"] == session


def test_a_dead_turn_keeps_nobody_out_who_does_not_want_to_wait(caller: Caller) -> None:
    session = new_id()
    caller.chat("Um", session_id=session)
    caller.service.sql(
        "UPDATE sessions_api_message SET status = 'pending', completed_at = NULL, runner = 'x:1:1', "
        "heartbeat_at = '2020-01-01 00:00:00' WHERE position = 1 AND session_id = "
        "(SELECT id FROM sessions_api_session WHERE session_id = %s)",
        session,
    )
    assert caller.chat("Dois", session_id=session, on_busy="reject")["response"] == "Eco (3): Dois"


def test_more_turns_than_allowed_are_503_and_leave_no_trace(tuned_service: Service, upstream: Upstream) -> None:
    caller, gate, session = Caller(tuned_service), threading.Event(), new_id()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Enfim"))
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(caller.chat, "Oi") for _ in range(3)]
        upstream.wait_until(lambda: upstream.count == 3)
        refused = caller.post("/chat", message="Oi", session_id=session)
        gate.set()
        assert {future.result()["response"] for future in asking} == {"Enfim"}
    assert problem(refused, 503, "overloaded")["retry_after"] == int(refused.headers["retry-after"]) >= 1
    problem(caller.get(f"/sessions/{session}"), 404, "session_not_found")
    wait_until(lambda: caller.post("/chat", message="Oi").status_code == 200)


# Greedy callers

WAITING = 32  # messages of a session


def test_a_session_s_line_has_an_end_and_others_are_answered_meanwhile(service: Service, upstream: Upstream) -> None:
    greedy, other, gate, session = Caller(service), Caller(service), threading.Event(), new_id()
    key = {"Idempotency-Key": new_id()}
    first = good(greedy.call("POST", "/chat", json={"message": "Já", "session_id": session}, headers=key))
    upstream.otherwise = scenarios.gated(gate, scenarios.echo())
    with ThreadPoolExecutor(WAITING + 6) as pool:
        running = pool.submit(greedy.post, "/chat", message="Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 2)
        asked = [pool.submit(greedy.post, "/chat", message=str(n), session_id=session) for n in range(WAITING + 5)]
        wait_until(lambda: sum(answer.done() for answer in asked) == 5)
        for refused in [answer.result() for answer in asked if answer.done()]:
            assert problem(refused, 409, "session_busy")["retry_after"] == 1
        again = greedy.call("POST", "/chat", json={"message": "Já", "session_id": session}, headers=key)
        assert (again.json(), again.headers["idempotent-replayed"]) == (first, "true")
        upstream.script(scenarios.ok("Claro"))
        assert other.chat("Posso?")["response"] == "Claro"
        gate.set()
        answers = [answer.result().status_code for answer in (running, *asked)]
        assert sorted(answers) == [200] * (WAITING + 1) + [409] * 5
    upstream.otherwise = scenarios.echo()
    assert greedy.chat("De novo", session_id=session)["response"].endswith("De novo")


def test_the_last_places_are_for_owners_who_hold_few(services: Services, upstream: Upstream) -> None:
    gate = threading.Event()
    upstream.otherwise = scenarios.gated(gate, scenarios.echo())
    with services.own(MAX_TURNS_IN_FLIGHT="20") as service, ThreadPoolExecutor(20) as pool:
        greedy, other = Caller(service), Caller(service)
        taken = [pool.submit(greedy.chat, "Um") for _ in range(18)]
        upstream.wait_until(lambda: upstream.count == 18)
        problem(greedy.post("/chat", message="Mais"), 503, "overloaded")
        taken += [pool.submit(other.chat, "Eu") for _ in range(2)]
        upstream.wait_until(lambda: upstream.count == 20)
        problem(Caller(service).post("/chat", message="E eu"), 503, "overloaded")
        gate.set()
        assert len({answer.result()["turn_id"] for answer in taken}) == 20
    upstream.otherwise = scenarios.echo()
