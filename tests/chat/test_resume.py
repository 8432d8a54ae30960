"""GET /turns/{id}/events and POST /turns/{id}/cancel: resume or stop a turn on any worker."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, Event, events, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.services import Services

TEXT = "Ação 🙂 e reação"


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture(scope="module")
def two_services(services: Services) -> Iterator[list[Service]]:
    """Two services on one database: a request to the second never reaches the process that runs the turn."""
    with services.pair() as both:
        yield both


@contextmanager
def running(caller: Caller, upstream: Upstream, after: str = "O começo ") -> Iterator[tuple[str, threading.Event]]:
    """The id of a turn that has sent `after`, and the gate to its end, "e o fim"."""
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after=after))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", message="Oi", session_id=session)
        try:
            wait_until(lambda: turn_of(caller, session, after) != "")
            yield turn_of(caller, session, after), gate
        finally:
            gate.set()
            asking.result()


def turn_of(caller: Caller, session: str, text: str) -> str:
    response = caller.get(f"/sessions/{session}/messages")
    found = [m["id"].rpartition(".")[0] for m in response.json().get("data", []) if m["content"] == text]
    return str(found[0]) if found else ""


def resume(caller: Caller, turn: str, last: int | None = None, language: str = "pt-BR") -> list[Event]:
    sent = {"Accept-Language": language, **({} if last is None else {"Last-Event-ID": str(last)})}
    response = caller.call("GET", f"/turns/{turn}/events", headers=sent)
    assert response.headers.get("content-type", "").startswith("text/event-stream"), response.text
    return events(response.text)


def text_of(heard: list[Event]) -> str:
    return "".join(event.data["text"] for event in heard if event.name == "delta")


@pytest.mark.parametrize("offset", range(len(TEXT) + 1))
def test_a_turn_that_has_ended_is_told_from_any_character_on(caller: Caller, upstream: Upstream, offset: int) -> None:
    upstream.reply(TEXT)
    answer = caller.chat("Oi")
    heard = resume(caller, answer["turn_id"], offset)
    assert heard[0] == Event("start", {k: answer[v] for k, v in START.items()})
    assert text_of(heard) == TEXT[offset:]
    assert heard[-1] == Event("done", answer, str(len(TEXT)))
    assert upstream.count == 1


START = {"turn_id": "turn_id", "session_id": "session_id", "model": "model_used"}


def test_the_address_can_say_where_to_begin(caller: Caller, upstream: Upstream) -> None:
    upstream.reply(TEXT)
    turn = caller.chat("Oi")["turn_id"]
    assert text_of(events(caller.get(f"/turns/{turn}/events?after=5").text)) == TEXT[5:]
    assert text_of(events(caller.get(f"/turns/{turn}/events/?after=").text)) == TEXT
    both = caller.call("GET", f"/turns/{turn}/events?after=0", headers={"Last-Event-ID": "5"})
    assert text_of(events(both.text)) == TEXT[5:]


@pytest.mark.parametrize("offset", ["-1", "x", "1.5", "٣", "9" * 10])
def test_an_offset_that_is_none_is_400(caller: Caller, offset: str) -> None:
    turn = caller.chat("Oi")["turn_id"]
    assert problem(caller.get(f"/turns/{turn}/events?after={offset}"), 400, "invalid_request")["errors"]
    sent = {b"Last-Event-ID": offset.encode()}
    assert problem(caller.call("GET", f"/turns/{turn}/events", headers=sent), 400, "invalid_request")["errors"]


def test_an_offset_behind_the_end_brings_the_end(caller: Caller) -> None:
    answer = caller.chat("Oi")
    assert [event.name for event in resume(caller, answer["turn_id"], 999)] == ["start", "done"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_running_turn_goes_on_for_who_comes_back(two_services: list[Service], upstream: Upstream, which: int) -> None:
    caller = Caller(two_services[0])
    with running(caller, upstream) as (turn, gate), ThreadPoolExecutor(3) as pool:
        elsewhere = Caller(two_services[which], key=caller.key)
        listening = [pool.submit(resume, elsewhere, turn, offset) for offset in (0, 3, 9)]
        gate.set()
        heard = [future.result() for future in listening]
    assert [text_of(told) for told in heard] == ["O começo e o fim", "omeço e o fim", "e o fim"]
    assert {told[-1].data["response"] for told in heard} == {"O começo e o fim"}
    assert upstream.count == 1


def test_a_retry_on_another_worker_joins_the_turn(two_services: list[Service], upstream: Upstream) -> None:
    first = Caller(two_services[0])
    second = Caller(two_services[1], key=first.key)
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    headers = {"Idempotency-Key": "k"}
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(first.call, "POST", "/chat", json={"message": "Oi"}, headers=headers)]
        upstream.wait_until(lambda: upstream.count == 1)
        asking.append(pool.submit(second.call, "POST", "/chat", json={"message": "Oi"}, headers=headers))
        gate.set()
        answers = [future.result() for future in asking]
    assert answers[0].content == answers[1].content
    assert good(answers[1])["response"] == "O começo e o fim"
    assert upstream.count == 1


def test_an_error_is_told_again(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.error_mid_stream(text="Até aqui"))
    turn = problem(caller.post("/chat", message="Oi"), 502, "provider_error")["turn_id"]
    heard = resume(caller, turn, language="en")
    assert text_of(heard) == "Até aqui"
    assert (heard[-1].name, heard[-1].data["code"], heard[-1].data["turn_id"]) == ("error", "provider_error", turn)
    assert heard[-1].data["detail"] == "The provider failed."


def test_a_dead_turn_is_told_as_interrupted(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service()
    caller = Caller(service)
    turn = caller.chat("Oi", session_id="s")["turn_id"]
    service.sql(
        "UPDATE sessions_api_message SET status = 'pending', content = 'Até', completed_at = NULL, runner = 'x:1:1', "
        "heartbeat_at = '2020-01-01 00:00:00' WHERE position = 1"
    )
    heard = resume(caller, turn)
    assert text_of(heard) == "Até"
    assert (heard[-1].name, heard[-1].data["code"]) == ("error", "turn_interrupted")
    assert heard[-1].data["may_have_been_billed"] is True


@pytest.mark.parametrize("method, what", [("GET", "events"), ("POST", "cancel")])
def test_a_turn_is_its_owner_s_alone(service: Service, method: str, what: str) -> None:
    turn = Caller(service).chat("Oi")["turn_id"]
    for address in (f"/turns/{turn}/{what}", f"/turns/nada/{what}"):
        problem(Caller(service).call(method, address), 404, "turn_not_found")


def test_a_closed_session_s_turn_is_gone(caller: Caller) -> None:
    answer = caller.chat("Oi", session_id="s")
    good(caller.call("DELETE", "/sessions/s"))
    problem(caller.get(f"/turns/{answer['turn_id']}/events"), 404, "turn_not_found")
    problem(caller.call("POST", f"/turns/{answer['turn_id']}/cancel"), 404, "turn_not_found")


def test_a_worker_that_stops_lets_those_go_who_listen_to_another_s_turn(
    two_services: list[Service], upstream: Upstream, tmp_path: Path
) -> None:
    """It ends them sooner than its own turns, and without an event that the turn ended."""
    caller = Caller(two_services[0])
    third = Service(tmp_path, settings={**two_services[0].settings, "GRACEFUL_TIMEOUT": "600"}).start()
    elsewhere = Caller(third, key=caller.key)
    try:
        with (
            running(caller, upstream) as (turn, _gate),
            elsewhere.connection() as client,
            client.stream("GET", f"/turns/{turn}/events") as response,
        ):
            lines = response.iter_lines()
            assert next(lines) == "event: start"
            assert third.terminate() == 0
            assert not {"event: done", "event: error"} & set(lines)
    finally:
        third.kill()


def test_a_head_request_is_not_kept_until_the_end(caller: Caller, upstream: Upstream) -> None:
    with running(caller, upstream) as (turn, _gate):
        response = caller.call("HEAD", f"/turns/{turn}/events")
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"].startswith("text/event-stream")


# Cancelling


def cancelled(answer: httpx.Response) -> dict[str, Any]:
    state = good(answer)
    assert (state["status"], state["text"], state["error"]) == ("cancelled", "O começo ", None)
    assert state["answer"]["finish_reason"] == "cancelled"
    return state


@pytest.mark.parametrize("which", [0, 1])
def test_a_turn_is_cancelled_from_any_worker(two_services: list[Service], upstream: Upstream, which: int) -> None:
    caller = Caller(two_services[0])
    elsewhere = Caller(two_services[which], key=caller.key)
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(
            caller.call, "POST", "/chat", json={"message": "Oi", "session_id": session, "stream": True}
        )
        wait_until(lambda: turn_of(caller, session, "O começo ") != "")
        turn = turn_of(caller, session, "O começo ")
        state = cancelled(elsewhere.call("POST", f"/turns/{turn}/cancel"))
        heard = events(asking.result().text)
    assert (heard[-1].name, heard[-1].data["finish_reason"]) == ("done", "cancelled")
    assert heard[-1].data == state["answer"]
    upstream.wait_until(lambda: upstream.closed_early == 1)
    assert caller.texts(session) == ["Oi", "O começo "]
    cancelled(elsewhere.call("POST", f"/turns/{turn}/cancel"))
    assert caller.chat("E agora?", session_id=session)["response"] == "Eco (3): E agora?"


def test_a_turn_that_says_nothing_can_be_cancelled(two_services: list[Service], upstream: Upstream) -> None:
    caller, session = Caller(two_services[0]), new_id()
    upstream.script(scenarios.hang())
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.chat, "Oi", session_id=session)
        wait_until(lambda: turn_of(caller, session, "") != "")
        turn = turn_of(caller, session, "")
        state = good(Caller(two_services[1], key=caller.key).call("POST", f"/turns/{turn}/cancel"))
        assert (state["status"], state["text"]) == ("cancelled", "")
        assert asking.result()["finish_reason"] == "cancelled"
    upstream.wait_until(lambda: upstream.closed_early == 1)
    assert caller.chat("De novo", session_id=session)["response"] == "Eco (1): De novo"


def test_a_turn_that_has_ended_is_answered_as_it_is(caller: Caller, upstream: Upstream) -> None:
    answer = caller.chat("Oi")
    state = good(caller.call("POST", f"/turns/{answer['turn_id']}/cancel"))
    assert (state["status"], state["answer"]) == ("completed", answer)


def test_a_cancelled_turn_s_key_gets_what_there_was(caller: Caller, upstream: Upstream) -> None:
    headers, body = {"Idempotency-Key": "k"}, {"message": "Oi", "session_id": new_id()}
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.call, "POST", "/chat", json=body, headers=headers)
        wait_until(lambda: turn_of(caller, body["session_id"], "O começo ") != "")
        cancelled(caller.call("POST", f"/turns/{turn_of(caller, body['session_id'], 'O começo ')}/cancel"))
        first = asking.result()
    assert json.loads(first.content)["finish_reason"] == "cancelled"
    assert caller.call("POST", "/chat", json=body, headers=headers).content == first.content
    assert upstream.count == 1


def test_a_turn_whose_process_does_not_answer_is_marked_all_the_same(
    make_service: MakeService, upstream: Upstream
) -> None:
    service = make_service(TURN_LEASE_SECONDS="3600")
    caller = Caller(service)
    turn = caller.chat("Oi", session_id="s")["turn_id"]
    service.sql(
        "UPDATE sessions_api_message SET status = 'pending', content = 'O começo ', completed_at = NULL, "
        "runner = 'elsewhere', heartbeat_at = '2099-01-01 00:00:00', finish_reason = '' WHERE position = 1"
    )
    cancelled(caller.call("POST", f"/turns/{turn}/cancel"))
