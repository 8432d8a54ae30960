"""A provider that is down is not asked, callers fail at once, and its return is noticed soon."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from chat.providers import ChatMessage, Options, Piece, Provider, ProviderError, make_provider
from chat.providers.circuit import COOL_DOWN, THRESHOLD, Circuit
from testing import scenarios
from testing.client import Caller, problem, wait_until
from testing.environment import free_port
from testing.exchange import Exchange, event
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.clock import Clock
from tests.support.replies import Answer, ask, collect, list_models, provider_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


def guarded(upstream: Upstream, clock: Clock, **settings: Any) -> Provider:
    values = {"circuit": Circuit("scripted", clock=clock), "retries": 0}
    return provider_for(upstream, **{**values, **settings})


def taken_down(upstream: Upstream, clock: Clock, **settings: Any) -> Provider:
    """A provider with an open circuit; the upstream works again, with its count at zero."""
    provider = guarded(upstream, clock, **settings)
    upstream.otherwise = scenarios.status(500)
    for _ in range(THRESHOLD):
        assert ask(provider).failure.code == "provider_error"
    assert provider.try_acquire() == COOL_DOWN
    upstream.clear()
    return provider


async def not_http(exchange: Exchange) -> None:
    await exchange.raw(b"\x16\x03\x01 what is this\r\n\r\n")
    exchange.close()


@pytest.mark.parametrize(
    "fault",
    [
        scenarios.status(500),
        scenarios.status(502),
        scenarios.status(503),
        scenarios.status(529),
        scenarios.status(524),
        scenarios.status(408),
        scenarios.html(200),
        scenarios.html(502),
        scenarios.reset(),
        scenarios.reset(after="Até aqui"),
        scenarios.hang(),
        scenarios.hang(after="Até aqui"),
        scenarios.truncated(),
        scenarios.error_in_200(502),
        scenarios.error_mid_stream(503),
        scenarios.raw(b"data: {not json}\n\n"),
        not_http,
    ],
    ids=lambda fault: fault.__qualname__.split(".")[0],
)
def test_a_provider_that_keeps_failing_is_not_asked_any_more(
    upstream: Upstream, clock: Clock, fault: scenarios.Scenario
) -> None:
    provider = guarded(upstream, clock, read_timeout=0.2)
    upstream.otherwise = fault
    for _ in range(THRESHOLD):
        assert ask(provider).failure.detail != "the circuit is open"
    failure = ask(provider).failure
    assert (failure.code, failure.retry_after, upstream.count) == ("provider_unavailable", COOL_DOWN, THRESHOLD)
    assert not failure.may_have_been_billed


def test_a_provider_that_takes_no_connection_is_not_asked_any_more(upstream: Upstream, clock: Clock) -> None:
    provider = guarded(upstream, clock, base_url=f"http://127.0.0.1:{free_port()}/v1")
    for _ in range(THRESHOLD):
        assert ask(provider).failure.code == "provider_unreachable"
    assert ask(provider).failure.code == "provider_unavailable"


@pytest.mark.parametrize(
    "answer",
    [
        *(scenarios.status(code) for code in (302, 400, 401, 402, 403, 404, 413, 422, 429)),
        scenarios.status(403, {"error": {"code": 403, "metadata": {"reasons": ["x"]}}}),
        scenarios.status(500, {"error": {"code": "context_length_exceeded"}}),
        scenarios.html(404),
        scenarios.html(413),
        scenarios.error_in_200(402),
        scenarios.error_mid_stream(429),
        scenarios.error_in_200("whatever"),
        scenarios.null_content(),
        scenarios.ok("", finish="length"),
    ],
    ids=lambda answer: answer.__qualname__.split(".")[0],
)
def test_what_one_caller_s_key_or_request_brings_about_never_keeps_others_out(
    upstream: Upstream, clock: Clock, answer: scenarios.Scenario
) -> None:
    provider = guarded(upstream, clock)
    upstream.otherwise = answer
    for _ in range(2 * THRESHOLD):
        assert ask(provider, api_key="callers-key").error is not None
    assert provider.try_acquire() == 0
    assert upstream.count == 2 * THRESHOLD


def test_the_provider_s_own_failures_count_whoever_s_key_was_sent(upstream: Upstream, clock: Clock) -> None:
    provider = guarded(upstream, clock)
    upstream.otherwise = scenarios.status(500)
    for number in range(THRESHOLD):
        ask(provider, api_key=f"callers-key-{number}")
    assert ask(provider).failure.code == "provider_unavailable"


def test_it_is_found_again_with_one_request(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    assert ask(provider).text == "Eco (1): Oi"
    assert provider.try_acquire() == 0
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
        turns = [collect(provider, [ChatMessage("user", "Oi")], Options("m")) for _ in range(20)]
        answers = await asyncio.gather(*turns)
        await provider.aclose()
        return answers

    answers = asyncio.run(run())
    assert [answer.text for answer in answers if answer.error is None] == ["Eco (1): Oi"]
    assert {answer.failure.code for answer in answers if answer.error} == {"provider_unavailable"}
    assert upstream.count == 1


def begun(provider: Provider) -> AsyncGenerator[Piece]:
    return provider.stream([ChatMessage("user", "Oi")], Options("m"))


def test_the_first_words_of_a_probe_are_enough(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    upstream.script(scenarios.ok("", pieces=["Olá, ", "mundo ", "e ", "mais"], interval=0.05))

    async def run() -> None:
        async with aclosing(begun(provider)) as pieces:
            assert (await anext(pieces)).text == "Olá, "
            await anext(pieces)
            assert provider.try_acquire() == 0
        await provider.aclose()

    asyncio.run(run())
    assert provider.try_acquire() == 0


def test_comments_alone_are_no_sign_of_life(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    error = event({"error": {"code": 502, "message": "…"}})
    upstream.script(scenarios.raw(b": OPENROUTER PROCESSING\n\n", b"data: : keepalive\n\n", error))
    assert ask(provider).failure.code == "provider_error"
    assert provider.try_acquire() == COOL_DOWN


@pytest.mark.parametrize("scenario", [scenarios.hang(), scenarios.trickle()])
def test_a_cancelled_probe_gives_its_place_back(upstream: Upstream, clock: Clock, scenario: scenarios.Scenario) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    upstream.script(scenario)

    async def run() -> Answer:
        probe = asyncio.create_task(collect(provider, [ChatMessage("user", "Oi")], Options("m")))
        while not upstream.count:
            await asyncio.sleep(0.01)
        assert provider.try_acquire() == COOL_DOWN
        probe.cancel()
        await asyncio.wait([probe])
        assert provider.try_acquire() == 0
        answer = await collect(provider, [ChatMessage("user", "Oi")], Options("m"))
        await provider.aclose()
        return answer

    assert asyncio.run(run()).text == "Eco (1): Oi"


def test_a_key_that_cannot_be_sent_takes_no_probe_s_place(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    clock.now += COOL_DOWN
    assert ask(provider, api_key="a\nb").failure.code == "invalid_request"
    assert provider.try_acquire() == 0


def test_the_list_of_models_is_behind_the_same_circuit(upstream: Upstream, clock: Clock) -> None:
    provider = taken_down(upstream, clock)
    with pytest.raises(ProviderError) as refused:
        list_models(provider)
    assert (refused.value.code, len(upstream.model_requests)) == ("provider_unavailable", 0)
    clock.now += COOL_DOWN
    assert len(list_models(provider)) == 2
    assert provider.try_acquire() == 0


@pytest.mark.parametrize("fault", [scenarios.status(500), scenarios.reset(), scenarios.models({"data": "nada"})])
def test_failures_of_the_list_count_too(upstream: Upstream, clock: Clock, fault: scenarios.Scenario) -> None:
    provider = guarded(upstream, clock)
    upstream.models = fault
    for _ in range(THRESHOLD):
        with pytest.raises(ProviderError):
            list_models(provider)
    assert provider.try_acquire() == COOL_DOWN
    assert ask(provider).failure.code == "provider_unavailable"
    assert upstream.count == 0


def test_two_providers_have_a_circuit_each(upstream: Upstream, clock: Clock) -> None:
    taken_down(upstream, clock)
    assert ask(guarded(upstream, clock)).text == "Eco (1): Oi"


def test_the_demonstration_is_never_down() -> None:
    assert make_provider("demo").try_acquire() == 0


# The service in front of it


def test_callers_are_refused_at_once_and_served_again_as_soon_as_it_is_back(
    make_service: MakeService, upstream: Upstream
) -> None:
    service = make_service()
    caller = Caller(service)
    upstream.otherwise = scenarios.status(500)
    for _ in range(THRESHOLD):
        problem(caller.post("/chat", message="Oi"), 502, "provider_error")
    refused = next(answer for _ in range(20) if (answer := caller.post("/chat", message="Oi")).status_code == 503)
    assert problem(refused, 503, "provider_unavailable")["retry_after"] in (1, 2)
    assert refused.headers["retry-after"] in ("1", "2")
    upstream.otherwise = scenarios.ok("De volta")
    wait_until(lambda: caller.post("/chat", message="Oi").status_code == 200)
    assert caller.chat("Oi")["response"] == "De volta"
    log = service.log()
    assert (log.count("openrouter is down"), log.count("openrouter answers again")) == (1, 1)
