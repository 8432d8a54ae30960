"""Idempotency-Key: the same request again is the same turn, whenever and wherever it comes."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, events, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.services import Services

BOTH = pytest.mark.parametrize("path", ["/chat", "/api/message"])


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture(scope="module")
def two_workers(services: Services) -> Iterator[Service]:
    with services.own(2, SESSION_BUSY_WAIT_SECONDS="20") as service:
        yield service


def ask(caller: Caller, key: str, path: str = "/chat", **body: Any) -> httpx.Response:
    return caller.call("POST", path, json={"message": "Oi", **body}, headers={"Idempotency-Key": key})


def replayed(response: httpx.Response) -> bool:
    return bool(response.headers.get("idempotent-replayed") == "true")


@BOTH
def test_the_same_request_again_gets_the_same_bytes(caller: Caller, upstream: Upstream, path: str) -> None:
    upstream.reply("Olá!", usage=scenarios.usage(12, 3, 0.0001234567890123))
    first, second, third = (ask(caller, "chave 1", path, session_id="s") for _ in range(3))
    assert good(first)["response"] == "Olá!"
    assert first.content == second.content == third.content
    assert [replayed(answer) for answer in (first, second, third)] == [False, True, True]
    assert upstream.count == 1
    assert caller.texts("s") == ["Oi", "Olá!"]


@BOTH
def test_a_stream_is_told_again_too(caller: Caller, upstream: Upstream, path: str) -> None:
    upstream.reply("Um dois três")
    first, second = (ask(caller, "fluxo", path, stream=True) for _ in range(2))
    told = [events(answer.text) for answer in (first, second)]
    assert [heard[0].data["turn_id"] for heard in told] == [told[0][0].data["turn_id"]] * 2
    assert [heard[-1].data["response"] for heard in told] == ["Um dois três"] * 2
    assert told[0][-1].data.keys() == told[1][-1].data.keys()
    assert "".join(event.data["text"] for event in told[1] if event.name == "delta") == "Um dois três"
    assert (replayed(first), replayed(second)) == (False, True)
    assert upstream.count == 1


def test_one_may_ask_for_json_and_again_for_a_stream_by_header(caller: Caller, upstream: Upstream) -> None:
    first = good(ask(caller, "k"))
    headers = {"Idempotency-Key": "k", "Accept": "text/event-stream"}
    second = caller.call("POST", "/chat", json={"message": "Oi"}, headers=headers)
    assert events(second.text)[-1].data == first
    assert upstream.count == 1


def test_it_holds_over_a_restart(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service()
    caller = Caller(service)
    upstream.script(scenarios.ok("Olá"), scenarios.status(500))
    first, failed = ask(caller, "a"), ask(caller, "b")
    service.restart()
    assert (ask(caller, "a").content, upstream.count) == (first.content, 2)
    error = problem(ask(caller, "b"), 502, "provider_error")
    assert error["turn_id"] == failed.json()["turn_id"]
    assert upstream.count == 2


@pytest.mark.parametrize(
    "other", [{"message": "Olá"}, {"session_id": "outra"}, {"stream": True}, {"model": "scripted/small"}, {"extra": 1}]
)
def test_another_body_with_the_same_key_is_422(caller: Caller, upstream: Upstream, other: dict[str, Any]) -> None:
    first = ask(caller, "k")
    problem(ask(caller, "k", **other), 422, "idempotency_mismatch")
    assert ask(caller, "k").content == first.content
    assert upstream.count == 1


def test_the_same_key_at_another_address_is_422(caller: Caller) -> None:
    good(ask(caller, "k"))
    problem(ask(caller, "k", "/api/message"), 422, "idempotency_mismatch")


def test_the_order_of_a_body_s_keys_makes_no_difference(caller: Caller, upstream: Upstream) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    bodies = [b'{"message": "Oi", "session_id": "s"}', b'{ "session_id":"s","message":"Oi" }']
    answers = [caller.call("POST", "/chat", content=body, headers=headers).content for body in bodies]
    assert answers[0] == answers[1]
    assert upstream.count == 1


def test_a_key_belongs_to_its_owner(service: Service, upstream: Upstream) -> None:
    answers = [good(ask(Caller(service), "k"))["turn_id"] for _ in range(2)]
    assert answers[0] != answers[1]
    assert upstream.count == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "ação", "tab\tulador"])
def test_a_key_that_is_none_is_400(caller: Caller, upstream: Upstream, key: str) -> None:
    response = caller.call("POST", "/chat", json={"message": "Oi"}, headers={b"Idempotency-Key": key.encode()})
    assert "Idempotency-Key" in problem(response, 400, "invalid_request")["errors"]
    assert upstream.count == 0


def test_the_longest_and_the_oddest_keys_work(caller: Caller, upstream: Upstream) -> None:
    for key in ("x" * 255, "'; -- %s {}", "~"):
        assert ask(caller, key).content == ask(caller, key).content
    assert upstream.count == 3


def test_a_failed_turn_is_told_again_with_its_error(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.status(500))
    answers = [ask(caller, "k") for _ in range(2)]
    assert [replayed(answer) for answer in answers] == [False, True]
    first, second = (problem(answer, 502, "provider_error") for answer in answers)
    assert first["turn_id"] == second["turn_id"]
    assert first["may_have_been_billed"] is second["may_have_been_billed"] is True
    assert upstream.count == 1


def test_what_would_be_refused_by_now_is_still_told_again(caller: Caller, upstream: Upstream) -> None:
    good(caller.get("/models"))
    first = ask(caller, "k", max_tokens=5000, session_id="s")  # by a model that is on no list
    good(first)
    caller.chat("Oi", session_id="s", model="scripted/small")
    problem(ask(caller, "outra", max_tokens=5000, session_id="s"), 400, "invalid_request")
    assert ask(caller, "k", max_tokens=5000, session_id="s").content == first.content


def test_a_stream_that_broke_is_told_again_with_its_text(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.error_mid_stream(text="Até aqui"))
    heard = [events(ask(caller, "k", stream=True).text) for _ in range(2)]
    for told in heard:
        assert "".join(event.data["text"] for event in told if event.name == "delta") == "Até aqui"
        assert (told[-1].name, told[-1].data["code"]) == ("error", "provider_error")
    assert upstream.count == 1


@pytest.mark.parametrize("body", [{"message": ""}, {"temperature": 3}])
def test_what_never_began_a_turn_is_not_kept(caller: Caller, upstream: Upstream, body: dict[str, Any]) -> None:
    problem(ask(caller, "k", **body), 400, "invalid_request")
    good(ask(caller, "k"))
    assert upstream.count == 1


def test_a_busy_session_s_refusal_is_not_kept(caller: Caller, upstream: Upstream) -> None:
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(caller.chat, "Um", session_id="s")
        upstream.wait_until(lambda: upstream.count == 1)
        problem(ask(caller, "k", session_id="s", on_busy="reject"), 409, "session_busy")
        gate.set()
        running.result()
    assert good(ask(caller, "k", session_id="s", on_busy="reject"))["response"] == "Eco (3): Oi"


@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_joins_the_turn_that_runs(caller: Caller, upstream: Upstream, stream: bool) -> None:
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(ask, caller, "k", session_id="s", stream=stream) for _ in range(20)]
        upstream.wait_until(lambda: upstream.count == 1)
        problem(ask(caller, "k", message="Outra"), 422, "idempotency_mismatch")
        gate.set()
        answers = [future.result() for future in asking]
    bodies = {json.dumps(events(answer.text)[-1].data) if stream else answer.text for answer in answers}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["response"] == "O começo e o fim"
    assert upstream.count == 1
    assert caller.texts("s") == ["Oi", "O começo e o fim"]


def test_a_retry_does_not_stand_in_line_behind_others(caller: Caller, upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Um")))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, caller, "k", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        waiting = pool.submit(caller.chat, "Depois", session_id=session)
        retry = pool.submit(ask, caller, "k", session_id=session)
        gate.set()
        assert first.result().content == retry.result().content
        assert waiting.result()["response"] == "Eco (3): Depois"


def test_fifty_at_once_on_two_workers_are_one_turn(two_workers: Service, upstream: Upstream) -> None:
    caller = Caller(two_workers)
    upstream.otherwise = scenarios.ok("Uma vez só", delay=0.2)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: ask(caller, "k"), range(50)))
    assert len({answer.content for answer in answers}) == 1
    assert good(answers[0])["response"] == "Uma vez só"
    assert upstream.count == 1
    assert two_workers.sql("SELECT count(*) FROM sessions_api_message WHERE content = 'Uma vez só'") == [(1,)]


def test_an_expired_key_may_be_used_again(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(IDEMPOTENCY_HOURS="1")
    caller = Caller(service)
    first = good(ask(caller, "k"))
    service.sql("UPDATE sessions_api_idempotencykey SET created_at = '2020-01-01 00:00:00'")
    second = good(ask(caller, "k", message="Outra coisa"))
    assert first["turn_id"] != second["turn_id"]
    assert upstream.count == 2
    assert not replayed(ask(caller, "outra"))


def test_the_purge_drops_expired_keys(make_service: MakeService) -> None:
    service = make_service()
    caller = Caller(service)
    good(ask(caller, "velha"))
    service.sql("UPDATE sessions_api_idempotencykey SET created_at = '2020-01-01 00:00:00'")
    good(ask(caller, "nova"))
    assert service.manage("purge_sessions", "--older-than", "1h").returncode == 0
    assert service.sql("SELECT key FROM sessions_api_idempotencykey") == [("nova",)]


def test_an_erased_session_takes_its_keys_along(caller: Caller, upstream: Upstream) -> None:
    good(ask(caller, "k", session_id="s"))
    count = "SELECT count(*) FROM sessions_api_idempotencykey WHERE key = 'k' AND owner = %s"
    [(owner,)] = caller.service.sql(
        "SELECT owner FROM sessions_api_session WHERE owner IN (SELECT owner FROM sessions_api_idempotencykey) "
        "ORDER BY id DESC LIMIT 1"
    )
    assert caller.service.sql(count, owner) == [(1,)]
    good(caller.call("DELETE", "/sessions/s?erase=true"))
    assert caller.service.sql(count, owner) == [(0,)]


def test_a_closed_session_s_key_begins_nothing_new(caller: Caller, upstream: Upstream) -> None:
    good(ask(caller, "k", session_id="s"))
    good(caller.call("DELETE", "/sessions/s"))
    problem(ask(caller, "k", session_id="s"), 404, "turn_not_found")
    assert upstream.count == 1


def test_nothing_of_the_request_is_in_the_key_s_row(caller: Caller) -> None:
    good(ask(caller, "marcada", message="canário-do-corpo"))
    [row] = caller.service.sql("SELECT * FROM sessions_api_idempotencykey WHERE key = 'marcada'")
    assert "canário" not in str(row)


def test_a_client_that_left_and_asks_again_gets_the_reply(caller: Caller, upstream: Upstream) -> None:
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    headers = {"Idempotency-Key": "k"}
    with caller.connection() as client:
        asked = {"message": "Oi", "stream": True, "session_id": "s"}
        with client.stream("POST", "/chat", json=asked, headers=headers) as response:
            next(response.iter_lines())
    gate.set()
    wait_until(lambda: caller.texts("s")[-1] == "O começo e o fim")
    assert events(ask(caller, "k", stream=True, session_id="s").text)[-1].data["response"] == "O começo e o fim"
    assert upstream.count == 1
