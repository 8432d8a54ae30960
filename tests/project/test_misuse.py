"""One caller's model harms nobody: others are answered while it fails, and its own turns are refused at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from chat.engine.facts import service_facts
from chat.providers import ProviderError
from chat.providers.circuit import THRESHOLD
from chat.providers.circuits import Circuits
from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.exchange import Exchange
from testing.scenarios import Scenario
from testing.service import Service
from testing.upstream import Upstream
from tests.support.replies import provider_for
from tests.support.services import Services

THREADS = 10


@pytest.fixture
def impatient(fronts: Services, upstream: Upstream) -> Iterator[Service]:
    yield fronts.shared(UPSTREAM_READ_SECONDS="2", SESSION_BUSY_WAIT_SECONDS="0.2")


@pytest.fixture
def model() -> str:
    """One that no other test uses: the circuits stay with the service."""
    return new_id("bad/model")


def failing(model: str, key: str, fault: Scenario) -> Scenario:
    """The fault for this model and key; all others are answered."""

    async def play(exchange: Exchange) -> None:
        asked = exchange.request.body["model"], exchange.request.headers["authorization"]
        bad = asked == (model, f"Bearer {key}")
        await (fault if bad else scenarios.ok("Tudo bem"))(exchange)

    return play


def post(caller: Caller, **body: Any) -> httpx.Response:
    return caller.post("/chat", message="Oi", **body)


def opened(caller: Caller, model: str) -> httpx.Response:
    """The first answer that came without a turn, after those that failed."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: post(caller, model=model), range(THREADS)))
    return next(answer for _ in range(50) if "turn_id" not in (answer := post(caller, model=model)).json())


FAULTS = {
    "503": (scenarios.status(503), True),
    "500": (scenarios.status(500), True),
    "429": (scenarios.status(429, headers={"Retry-After": "30"}), False),
    "401": (scenarios.status(401), False),
    "hang": (scenarios.hang(), True),
    "hang in mid-answer": (scenarios.hang(after="Até"), True),
    "reset": (scenarios.reset(), True),
    "cut": (scenarios.truncated(), True),
    "unknown in a 503": (scenarios.status(503, {"error": {"message": "No available channel for model x"}}), None),
    "garbage": (scenarios.raw(b"data: {not json}\n\n"), True),
}


@pytest.mark.parametrize(("fault", "opens"), FAULTS.values(), ids=FAULTS)
def test_others_are_answered_while_one_caller_s_model_fails(
    impatient: Service, upstream: Upstream, model: str, fault: Scenario, opens: bool | None
) -> None:
    bad, other, nobody = Caller(impatient), Caller(impatient), Caller(impatient, "")
    upstream.otherwise = failing(model, bad.key, fault)
    with ThreadPoolExecutor(THREADS) as pool:
        misuse = [pool.submit(post, bad, model=model) for _ in range(2 * THREADS)]
        for _ in range(5):
            assert other.chat("Oi", model=model)["response"] == "Tudo bem"
            assert nobody.chat("Oi")["response"] == "Tudo bem"
            assert bad.chat("Oi", model="good/model")["response"] == "Tudo bem"
            assert other.stream("/chat", message="Oi", model=model)[-1].data["response"] == "Tudo bem"
        answers = [call.result() for call in misuse]
    assert all(answer.status_code != 200 for answer in answers)
    if opens is not None:
        refused = [answer for answer in answers if "turn_id" not in answer.json()]
        assert bool(refused) == opens
    assert other.stream("/api/message", message="Oi")[-1].name == "done"


def test_fifty_invented_models_keep_nobody_out(impatient: Service, upstream: Upstream) -> None:
    async def play(exchange: Exchange) -> None:
        bad = str(exchange.request.body["model"]).startswith("invented")
        await (scenarios.status(500) if bad else scenarios.ok("Tudo bem"))(exchange)

    upstream.otherwise = play
    bad, other = Caller(impatient), Caller(impatient)
    with ThreadPoolExecutor(THREADS) as pool:
        asked = list(pool.map(lambda number: post(bad, model=f"invented/{number % 50}"), range(50 * 2)))
        assert {answer.status_code for answer in asked} == {502}
    assert other.chat("Oi")["response"] == bad.chat("Oi", model="good/model")["response"] == "Tudo bem"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
def test_a_failing_model_s_turns_are_refused_before_they_are_stored(
    impatient: Service, upstream: Upstream, model: str, stream: bool
) -> None:
    """Also where only the session knows the model."""
    caller, session, other = Caller(impatient), new_id(), new_id()
    caller.chat("Oi", session_id=session, model=model)
    caller.chat("Oi", session_id=other, model="good/model")
    upstream.otherwise = failing(model, caller.key, scenarios.status(500))
    opened(caller, model)
    count = upstream.count
    answer = post(caller, session_id=session, stream=stream)
    error = problem(answer, 503, "provider_unavailable")
    assert (error["retry_after"], "turn_id" in error, upstream.count) in [(1, False, count), (2, False, count)]
    assert answer.headers["retry-after"] in ("1", "2")
    assert len(caller.texts(session)) == 2
    assert good(post(caller, session_id=other))["response"] == "Tudo bem"


def test_a_switch_to_another_model_is_the_way_on(impatient: Service, upstream: Upstream, model: str) -> None:
    caller, session = Caller(impatient), new_id()
    caller.chat("Oi", session_id=session, model=model)
    upstream.otherwise = failing(model, caller.key, scenarios.status(500))
    opened(caller, model)
    assert caller.chat("Oi", session_id=session, model="good/model")["response"] == "Tudo bem"
    assert caller.chat("Oi", session_id=session)["response"] == "Tudo bem"


def test_a_repetition_is_answered_while_its_model_fails(impatient: Service, upstream: Upstream, model: str) -> None:
    caller, session = Caller(impatient), new_id()

    def ask(key: str, message: str = "Oi") -> httpx.Response:
        body = {"message": message, "session_id": session, "model": model}
        return caller.call("POST", "/chat", json=body, headers={"Idempotency-Key": key})

    first = ask("uma")
    upstream.otherwise = failing(model, caller.key, scenarios.status(500))
    opened(caller, model)
    again = ask("uma")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    problem(ask("uma", "Outra"), 422, "idempotency_mismatch")
    problem(ask("outra"), 503, "provider_unavailable")
    assert len(caller.texts(session)) == 2


def test_the_console_names_the_models_that_fail(upstream: Upstream) -> None:
    circuits = Circuits("scripted")
    service: Any = SimpleNamespace(provider=provider_for(upstream, circuits=circuits), running={})
    usual = service_facts(service)
    for number in range(7):
        for _ in range(THRESHOLD):
            circuits.enter(circuits.pair(f"m{number}", "sk-1")).end(ProviderError("provider_error", retryable=True))
    added = [fact for fact in service_facts(service) if fact not in usual]
    assert [(str(fact.value), fact.trouble) for fact in added] == [("7: m0, m1, m2, m3, m4, …", False)]
