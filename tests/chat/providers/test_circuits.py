"""The circuits of a provider: what counts for everybody, and what for one model and one key."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from chat.providers import ChatMessage, Options, Provider, ProviderError
from chat.providers.circuit import COOL_DOWN, THRESHOLD
from chat.providers.circuits import IDLE_SECONDS, MAX_PAIRS, Circuits, Tickets
from testing import scenarios
from testing.environment import free_port
from testing.exchange import Exchange
from testing.upstream import Upstream
from tests.support.clock import Clock
from tests.support.replies import Answer, ask, collect, list_models, provider_for

UNREACHABLE = ProviderError("provider_unreachable", connected=False)
FAILED = ProviderError("provider_error", retryable=True, may_have_been_billed=True)
REFUSED = ProviderError("provider_auth_failed")
SERVER = None  # the server's own key


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuits(clock: Clock) -> Circuits:
    return Circuits("scripted", clock=clock)


def enter(circuits: Circuits, model: str = "bad", key: str | None = SERVER) -> Tickets:
    return circuits.enter(circuits.pair(model, key))


def fail(circuits: Circuits, problem: ProviderError = FAILED, times: int = THRESHOLD, **pair: Any) -> None:
    for _ in range(times):
        enter(circuits, **pair).end(problem)


def waits(circuits: Circuits, model: str = "bad", key: str | None = SERVER) -> float:
    return circuits.wait_seconds(circuits.pair(model, key))


# In themselves


@pytest.mark.parametrize("other", [("good", SERVER), ("bad", "sk-1"), ("good", "sk-1"), ("bad ", SERVER)])
def test_a_failing_model_is_closed_to_its_own_key_alone(circuits: Circuits, other: tuple[str, str | None]) -> None:
    fail(circuits)
    assert waits(circuits) == COOL_DOWN
    with pytest.raises(ProviderError) as refused:
        enter(circuits)
    assert (refused.value.code, refused.value.may_have_been_billed) == ("provider_unavailable", False)
    assert waits(circuits, *other) == 0
    enter(circuits, *other).end(None)
    assert circuits.try_acquire("", None) == circuits.try_acquire(*other) == 0
    assert circuits.failing_models == {"bad"}
    assert circuits.refuses_models


def test_a_connection_that_fails_counts_for_all(circuits: Circuits) -> None:
    for number in range(THRESHOLD):
        assert not circuits.is_down
        enter(circuits, f"model-{number}", f"sk-{number}").end(UNREACHABLE)
    assert circuits.is_down
    assert waits(circuits, "good") == circuits.try_acquire("", None) == COOL_DOWN
    assert circuits.failing_models == frozenset()


@pytest.mark.parametrize("answer", [None, FAILED, REFUSED, ProviderError("provider_timeout", retryable=True)])
def test_whatever_is_answered_shows_that_the_way_is_open(
    circuits: Circuits, clock: Clock, answer: ProviderError | None
) -> None:
    fail(circuits, UNREACHABLE)
    clock.now += COOL_DOWN
    enter(circuits, "other").end(answer)
    assert not circuits.is_down
    fail(circuits, UNREACHABLE, THRESHOLD - 1)
    enter(circuits, "other").end(answer)
    fail(circuits, UNREACHABLE, THRESHOLD - 1)
    assert not circuits.is_down


def test_the_first_header_is_enough_for_the_way(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, UNREACHABLE)
    clock.now += COOL_DOWN
    enter(circuits).connected()
    assert not circuits.is_down


@pytest.mark.parametrize("end", [asyncio.CancelledError(), KeyError("ours"), GeneratorExit()])
def test_a_cancelled_probe_gives_both_places_back(circuits: Circuits, clock: Clock, end: BaseException) -> None:
    fail(circuits)
    fail(circuits, UNREACHABLE, model="other")
    clock.now += COOL_DOWN
    enter(circuits).end(end)
    assert circuits.is_down
    assert waits(circuits) == 0
    enter(circuits).end(None)
    assert (circuits.is_down, circuits.failing_models, circuits.refuses_models) == (False, frozenset(), False)


def test_no_place_is_taken_in_one_circuit_while_the_other_is_open(circuits: Circuits, clock: Clock) -> None:
    fail(circuits, UNREACHABLE)
    clock.now += COOL_DOWN / 2
    fail_late(circuits)
    clock.now += COOL_DOWN / 2  # the way may be tried, the model not yet
    with pytest.raises(ProviderError):
        enter(circuits)
    enter(circuits, "good").end(None)
    assert waits(circuits, "good") == 0


def fail_late(circuits: Circuits) -> None:
    """What was sent before the connections failed."""
    for _ in range(THRESHOLD):
        circuits.answered(circuits.pair("bad", SERVER), None, FAILED)


def test_a_success_begins_the_count_again_and_leaves_nothing_behind(circuits: Circuits) -> None:
    early = enter(circuits)
    fail(circuits, times=THRESHOLD - 1)
    early.end(None)
    assert not circuits._pairs
    fail(circuits, times=THRESHOLD - 1)
    assert waits(circuits) == 0


def test_what_was_sent_before_it_opened_says_nothing_about_now(circuits: Circuits, clock: Clock) -> None:
    late = [enter(circuits) for _ in range(3 * THRESHOLD)]
    fail(circuits)
    late.pop().end(None)
    assert waits(circuits) == COOL_DOWN
    clock.now += COOL_DOWN
    enter(circuits).end(None)
    for ticket in late:
        ticket.end(FAILED)
    assert waits(circuits) == 0


def test_requests_at_once_count_though_they_were_sent_before_the_first_failure(circuits: Circuits) -> None:
    sent = [enter(circuits) for _ in range(THRESHOLD)]
    for ticket in sent:
        ticket.end(FAILED)
        ticket.end(FAILED)
    assert waits(circuits) == COOL_DOWN


def test_one_turn_begins_per_cool_down_and_model(circuits: Circuits, clock: Clock) -> None:
    fail(circuits)
    fail(circuits, model="worse")
    clock.now += COOL_DOWN
    assert [circuits.try_acquire("bad", SERVER) for _ in range(3)] == [0, COOL_DOWN, COOL_DOWN]
    assert circuits.try_acquire("worse", SERVER) == 0
    circuits.release("bad", SERVER)
    assert circuits.try_acquire("bad", SERVER) == 0
    circuits.release("unknown", "sk-1")


def test_invented_models_take_bounded_memory(circuits: Circuits) -> None:
    for number in range(3 * MAX_PAIRS):
        fail(circuits, times=1, model=f"invented-{number}", key=f"sk-{number % 7}")
        assert not circuits.refuses_models
    for number in range(3 * MAX_PAIRS):
        fail(circuits, model=f"invented-{number}")
    assert len(circuits._pairs) == len(circuits.failing_models) == MAX_PAIRS
    assert waits(circuits, "good") == 0


def test_a_model_that_goes_on_failing_is_not_forgotten_for_newer_ones(circuits: Circuits) -> None:
    fail(circuits, times=THRESHOLD - 1)
    for number in range(MAX_PAIRS - 1):
        fail(circuits, times=1, model=f"invented-{number}")
    fail(circuits, times=1)
    fail(circuits, times=1, model="one more")
    assert waits(circuits) == COOL_DOWN


def test_what_nobody_asks_for_any_more_is_forgotten(circuits: Circuits, clock: Clock) -> None:
    for number in range(50):
        fail(circuits, model=f"invented-{number}")
    assert len(circuits.failing_models) == 50
    clock.now += IDLE_SECONDS + 1
    assert circuits.failing_models == frozenset()
    assert not circuits.refuses_models
    assert not circuits._pairs


def test_it_keeps_no_key(circuits: Circuits, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        fail(circuits, key="sk-callers-own")
    kept = f"{circuits.__dict__} {list(circuits._pairs.items())} {[vars(one) for one in circuits._pairs.values()]}"
    assert "sk-callers" not in kept + caplog.text + repr(circuits) + repr(enter(circuits, "other", "sk-callers-own"))
    assert circuits.pair("m", "sk-1") == circuits.pair("m", "sk-1") != circuits.pair("m", "sk-2")
    assert circuits.pair("m", "sk-1") != Circuits("scripted").pair("m", "sk-1")


def test_it_says_in_the_log_which_model_fails(
    circuits: Circuits, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fail(circuits)
    clock.now += COOL_DOWN
    enter(circuits).end(None)
    assert [record.getMessage() for record in caplog.records] == [
        "the model bad is down: requests fail at once until it answers",
        "the model bad answers again",
    ]


# Over HTTP: five failures with one model and key, and then somebody else's turn


async def many(provider: Provider, **options: Any) -> list[Answer]:
    asked = [ChatMessage("user", "Oi")]
    turns = [collect(provider, asked, Options(**{"model": "bad", **options})) for _ in range(THRESHOLD)]
    return await asyncio.gather(*turns)


def failed(provider: Provider, **options: Any) -> set[str]:
    """The codes of enough failures."""

    async def run() -> set[str]:
        answers = await many(provider, **options)
        await provider.aclose()
        return {answer.failure.code for answer in answers}

    return asyncio.run(run())


async def closed(exchange: Exchange) -> None:
    exchange.close()


async def not_http(exchange: Exchange) -> None:
    await exchange.raw(b"\x16\x03\x01 what is this\r\n\r\n")
    exchange.close()


@pytest.mark.parametrize("key", [None, "callers-key"])
@pytest.mark.parametrize(
    "answer",
    [
        *(scenarios.status(code) for code in (408, 500, 502, 503, 524, 529)),
        scenarios.status(500, {"error": {"code": "model_overloaded", "message": "…"}}),
        scenarios.html(200),
        scenarios.html(503),
        scenarios.reset(),
        scenarios.reset(after="Até aqui"),
        closed,
        not_http,
        scenarios.hang(),
        scenarios.hang(after="Até aqui"),
        scenarios.truncated(),
        scenarios.truncated(clean=False),
        scenarios.error_in_200(502),
        scenarios.error_mid_stream(503),
        scenarios.raw(b"data: {not json}\n\n"),
    ],
    ids=lambda answer: getattr(answer, "__qualname__", str(answer)).split(".")[0],
)
def test_what_is_answered_counts_for_the_model_and_the_key(
    upstream: Upstream, clock: Clock, answer: scenarios.Scenario, key: str | None
) -> None:
    provider = provider_for(upstream, circuits=Circuits("scripted", clock=clock), retries=0, read_timeout=0.3)
    upstream.otherwise = answer
    failed(provider, api_key=key)
    failure = ask(provider, model="bad", api_key=key).failure
    assert (failure.code, failure.retry_after, failure.may_have_been_billed) == (
        "provider_unavailable",
        COOL_DOWN,
        False,
    )
    assert (upstream.count, list(provider.failing_models), provider.is_down) == (THRESHOLD, ["bad"], False)
    upstream.clear()
    others = [("good", key), ("bad", "others-key"), ("good", "others-key"), *([("bad", None)] if key else [])]
    for model, other in others:
        assert ask(provider, model=model, api_key=other).text.startswith("Eco"), (model, other)
    assert len(list_models(provider)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        *(scenarios.status(code) for code in (302, 400, 401, 402, 403, 404, 413, 422, 429)),
        scenarios.status(500, {"error": {"code": "context_length_exceeded"}}),
        scenarios.status(403, {"error": {"code": 403, "metadata": {"reasons": ["x"]}}}),
        scenarios.html(404),
        scenarios.html(413),
        scenarios.error_in_200(402),
        scenarios.error_in_200("whatever"),
        scenarios.error_mid_stream(429),
        scenarios.null_content(),
        scenarios.ok("", finish="length"),
    ],
    ids=lambda answer: getattr(answer, "__qualname__", str(answer)).split(".")[0],
)
def test_what_a_request_or_a_key_brings_about_counts_for_nobody(
    upstream: Upstream, clock: Clock, answer: scenarios.Scenario
) -> None:
    provider = provider_for(upstream, circuits=Circuits("scripted", clock=clock), retries=0)
    upstream.otherwise = answer
    failed(provider)
    assert (provider.try_acquire("bad"), provider.try_acquire(), provider.failing_models) == (0, 0, frozenset())


@contextmanager
def refused(upstream: Upstream) -> Iterator[dict[str, str]]:
    yield {"base_url": f"http://127.0.0.1:{free_port()}/v1"}


@contextmanager
def no_such_host(upstream: Upstream) -> Iterator[dict[str, str]]:
    yield {"base_url": "http://no such host/v1"}


@contextmanager
def nobody_accepts(upstream: Upstream) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield {"base_url": f"http://127.0.0.1:{full.getsockname()[1]}/v1"}


@contextmanager
def no_tls(upstream: Upstream) -> Iterator[dict[str, str]]:
    """The server waits for the end of a request's head: to it, the client's hello is none."""
    yield {"base_url": upstream.url.replace("http:", "https:")}


@contextmanager
def no_proxy(upstream: Upstream) -> Iterator[dict[str, str]]:
    yield {"proxy": f"http://127.0.0.1:{free_port()}"}


@contextmanager
def proxy_refuses(upstream: Upstream) -> Iterator[dict[str, str]]:
    upstream.otherwise = scenarios.status(407)
    yield {"base_url": "https://provider.invalid/v1", "proxy": upstream.url.removesuffix("/v1")}


@pytest.mark.parametrize("way", [refused, no_such_host, nobody_accepts, no_tls, no_proxy, proxy_refuses])
def test_no_connection_counts_for_everybody(upstream: Upstream, clock: Clock, way: Any) -> None:
    with way(upstream) as settings:
        values: dict[str, Any] = {"circuits": Circuits("scripted", clock=clock), "retries": 0, "connect_timeout": 0.2}
        provider = provider_for(upstream, **values, **settings)
        assert failed(provider) <= {"provider_unreachable", "provider_timeout"}
        assert (provider.is_down, provider.failing_models) == (True, frozenset())
        assert ask(provider, model="good", api_key="others-key").failure.code == "provider_unavailable"
        with pytest.raises(ProviderError, match="the circuit is open"):
            list_models(provider)


@pytest.mark.parametrize("fault", [scenarios.status(500), scenarios.reset(), scenarios.models({"data": "nada"})])
def test_a_list_that_fails_is_not_asked_for_and_keeps_no_turn_out(
    upstream: Upstream, clock: Clock, fault: scenarios.Scenario
) -> None:
    provider = provider_for(upstream, circuits=Circuits("scripted", clock=clock), retries=0)
    upstream.models = fault
    for _ in range(2 * THRESHOLD):
        with pytest.raises(ProviderError):
            list_models(provider)
    assert len(upstream.model_requests) in (THRESHOLD, 2 * THRESHOLD)  # aiohttp asks again after a reset: a GET may be
    with pytest.raises(ProviderError, match="the circuit is open"):
        list_models(provider)
    assert (provider.is_down, provider.refuses_models, provider.failing_models) == (False, False, frozenset())
    assert ask(provider).text == "Eco (1): Oi"
