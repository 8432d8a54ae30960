"""A provider that is down is not asked, callers fail at once, and its return is noticed soon."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest

from chat.providers import ChatMessage, Options, Piece, Provider, make_provider
from chat.providers.circuit import COOL_DOWN, THRESHOLD
from chat.providers.circuits import Circuits
from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.environment import free_port
from testing.exchange import event
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.clock import Clock
from tests.support.replies import Answer, ask, collect, provider_for
from tests.support.services import Services

MODEL = "scripted/small"  # the default of `provider_for`


@pytest.fixture
def clock() -> Clock:
    return Clock()


def guarded(upstream: Upstream, clock: Clock, **settings: Any) -> Provider:
    values = {"circuits": Circuits("scripted", clock=clock), "retries": 0}
    return provider_for(upstream, **{**values, **settings})


def taken_down(upstream: Upstream, clock: Clock, **settings: Any) -> Provider:
    """A provider whose model has an open circuit; the upstream works again, with its count at zero."""
    provider = guarded(upstream, clock, **settings)
    upstream.otherwise = scenarios.status(500)
    for _ in range(THRESHOLD):
        assert ask(provider).failure.code == "provider_error"
    assert provider.try_acquire(MODEL) == COOL_DOWN
    upstream.clear()
    return provider


def test_it_is_found_again_with_one_request(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    assert ask(provider).text == "Eco (1): Oi"
    assert provider.try_acquire(MODEL) == 0
    assert ask(provider).text == "Eco (1): Oi"


def test_a_provider_that_could_not_be_reached_is_found_again_with_one_request(clock: Clock) -> None:
    port = free_port()
    values: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}/v1", "default_model": MODEL, "api_key": "k"}
    provider = make_provider("openai", circuits=Circuits("scripted", clock=clock), retries=0, **values)
    for _ in range(THRESHOLD):
        assert ask(provider).failure.code == "provider_unreachable"
    assert (provider.try_acquire(), provider.is_down) == (COOL_DOWN, True)
    with Upstream(port) as upstream:
        assert ask(provider).failure.code == "provider_unavailable"
        clock.now += COOL_DOWN
        upstream.otherwise = scenarios.status(401)
        assert ask(provider, model="another", api_key="made-up").failure.code == "provider_auth_failed"
        assert (provider.try_acquire(), provider.is_down) == (0, False)
        upstream.clear()
        assert ask(provider).text == "Eco (1): Oi"


def test_a_request_is_not_repeated_to_a_provider_that_is_down(upstream: Upstream, clock: Clock) -> None:
    provider = guarded(upstream, clock, retries=2)
    upstream.otherwise = scenarios.status(503)
    ask(provider)
    ask(provider)
    assert upstream.count == THRESHOLD
    clock.now += COOL_DOWN
    ask(provider)
    assert upstream.count == THRESHOLD + 1  # a probe is sent once


def test_the_request_that_opens_it_is_answered_with_its_own_failure(upstream: Upstream, clock: Clock) -> None:
    provider = guarded(upstream, clock, retries=2, base_url=f"http://127.0.0.1:{free_port()}/v1")
    failures = [ask(provider).failure.code for _ in range(3)]
    assert failures == ["provider_unreachable", "provider_unreachable", "provider_unavailable"]


def test_of_many_at_once_one_tries(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN

    async def run() -> list[Answer]:
        turns = [collect(provider, [ChatMessage("user", "Oi")], Options(MODEL)) for _ in range(20)]
        answers = await asyncio.gather(*turns)
        await provider.aclose()
        return answers

    answers = asyncio.run(run())
    assert [answer.text for answer in answers if answer.error is None] == ["Eco (1): Oi"]
    assert {answer.failure.code for answer in answers if answer.error} == {"provider_unavailable"}
    assert upstream.count == 1


def begun(provider: Provider) -> AsyncGenerator[Piece]:
    return provider.stream([ChatMessage("user", "Oi")], Options(MODEL))


def test_the_first_words_of_a_probe_are_enough(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    upstream.script(scenarios.ok("", pieces=["Olá, ", "mundo ", "e ", "mais"], interval=0.05))

    async def run() -> None:
        async with aclosing(begun(provider)) as pieces:
            assert (await anext(pieces)).text == "Olá, "
            await anext(pieces)
            assert provider.try_acquire(MODEL) == 0
        await provider.aclose()

    asyncio.run(run())
    assert provider.try_acquire(MODEL) == 0


def test_comments_alone_are_no_sign_of_life(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    error = event({"error": {"code": 502, "message": "…"}})
    upstream.script(scenarios.raw(b": OPENROUTER PROCESSING\n\n", b"data: : keepalive\n\n", error))
    assert ask(provider).failure.code == "provider_error"
    assert provider.try_acquire(MODEL) == COOL_DOWN


@pytest.mark.parametrize("scenario", [scenarios.hang(), scenarios.trickle()])
def test_a_cancelled_probe_gives_its_place_back(upstream: Upstream, clock: Clock, scenario: scenarios.Scenario) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    upstream.script(scenario)

    async def run() -> Answer:
        probe = asyncio.create_task(collect(provider, [ChatMessage("user", "Oi")], Options(MODEL)))
        while not upstream.count:
            await asyncio.sleep(0.01)
        assert provider.try_acquire(MODEL) == COOL_DOWN
        probe.cancel()
        await asyncio.wait([probe])
        assert provider.try_acquire(MODEL) == 0
        answer = await collect(provider, [ChatMessage("user", "Oi")], Options(MODEL))
        await provider.aclose()
        return answer

    assert asyncio.run(run()).text == "Eco (1): Oi"


def test_a_key_that_cannot_be_sent_takes_no_probe_s_place(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    assert ask(provider, api_key="a\nb").failure.code == "invalid_request"
    assert provider.try_acquire(MODEL) == 0


def test_two_providers_have_a_circuit_each(upstream: Upstream, clock: Clock) -> None:
    taken_down(upstream, clock)
    assert ask(guarded(upstream, clock)).text == "Eco (1): Oi"


def test_the_demonstration_is_never_down() -> None:
    assert make_provider("demo").try_acquire() == make_provider("demo").try_acquire("demo") == 0


# The service in front of it


def test_callers_are_refused_at_once_and_served_again_as_soon_as_it_is_back(
    make_service: MakeService, upstream: Upstream
) -> None:
    service = make_service()
    caller = Caller(service)
    upstream.otherwise = scenarios.status(500)
    for _ in range(THRESHOLD):
        problem(caller.post("/chat", message="Oi"), 502, "provider_error")
    again = {"Idempotency-Key": "uma"}
    asked = (caller.call("POST", "/chat", json={"message": "Oi"}, headers=again) for _ in range(20))
    refused = next(answer for answer in asked if answer.status_code == 503)
    assert problem(refused, 503, "provider_unavailable")["retry_after"] in (1, 2)
    assert refused.headers["retry-after"] in ("1", "2")
    upstream.otherwise = scenarios.ok("De volta")
    # A turn that is refused for a reason of its own takes nobody's try.
    wait_until(lambda: caller.post("/chat", message="Oi", session_id="s", after_turn=new_id()).status_code == 404)
    assert good(caller.call("POST", "/chat", json={"message": "Oi"}, headers=again))["response"] == "De volta"
    log = service.log()
    assert (log.count("the model test/model is down"), log.count("the model test/model answers again")) == (1, 1)


def test_a_provider_that_cannot_be_reached_is_closed_to_everybody(fronts: Services) -> None:
    with Upstream() as gone:
        service = fronts.shared(OPENROUTER_BASE_URL=gone.url)
        Caller(service).chat("Oi")
    callers = [Caller(service) for _ in range(2 * THRESHOLD)]
    with ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(lambda caller: caller.post("/chat", message="Oi", model=new_id()), callers))
    for body in ({}, {"model": new_id()}, {"stream": True}):
        other = Caller(service)
        asked = (other.post("/chat", message="Oi", session_id=new_id(), **body) for _ in range(20))
        refused = next(answer for answer in asked if answer.status_code != 502)  # which may be the one that tries it
        assert "turn_id" not in problem(refused, 503, "provider_unavailable")
    assert service.log().count("the provider openrouter is down") == 1
