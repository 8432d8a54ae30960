"""GET /models: the provider's list, cached for a while; an old list rather than none."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing import scenarios
from testing.client import Caller, good, problem
from testing.exchange import Exchange
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService


@pytest.mark.parametrize("path", ["/models", "/models/"])
def test_models_are_shown_as_the_provider_lists_them(service: Service, path: str) -> None:
    listed = [scenarios.model("scripted/small"), scenarios.model("scripted/large", 128000)]
    assert good(Caller(service, key="").get(path)) == {"data": listed}


def test_a_caller_with_a_key_gets_them_too(service: Service) -> None:
    assert len(good(Caller(service).get("/models"))["data"]) == 2


def test_the_list_is_fetched_once(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service(), key="")
    with ThreadPoolExecutor(8) as pool:
        lists = list(pool.map(lambda _: good(caller.get("/models")), range(24)))
    assert all(found == lists[0] for found in lists)
    assert len(upstream.model_requests) == 1


def test_only_one_fetch_at_a_time_runs(make_service: MakeService, upstream: Upstream) -> None:
    caller, gate = Caller(make_service(MODELS_CACHE_SECONDS="0"), key=""), threading.Event()
    upstream.models = scenarios.gated(gate, scenarios.models())
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(caller.get, "/models") for _ in range(8)]
        upstream.wait_until(lambda: len(upstream.model_requests) == 1)
        good(caller.get("/health"))
        gate.set()
        assert all(len(good(found.result())["data"]) == 2 for found in asking)


def test_a_list_that_was_never_fetched_is_an_error_and_an_old_one_is_not(
    make_service: MakeService, upstream: Upstream
) -> None:
    caller = Caller(make_service(MODELS_CACHE_SECONDS="0"), key="")
    upstream.models = scenarios.status(500)
    problem(caller.get("/models"), 502, "provider_error")
    assert caller.chat("Oi")["response"] == "Eco (1): Oi"
    upstream.models = scenarios.models()
    fresh = good(caller.get("/models"))
    assert len(fresh["data"]) == 2
    before = len(upstream.model_requests)
    for fault in (scenarios.status(500), scenarios.html(502), scenarios.reset(), scenarios.models({"data": "nada"})):
        upstream.models = fault
        assert good(caller.get("/models")) == fresh
    assert len(upstream.model_requests) > before


def test_a_turn_does_not_wait_long_for_a_list_that_does_not_come(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service())
    upstream.models = scenarios.hang()
    assert caller.chat("Oi")["response"] == "Eco (1): Oi"


def test_one_caller_s_bad_key_is_not_everybody_s_failure(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service(OPENROUTER_API_KEY=""))
    upstream.models = only_for_others(caller.key)
    caller.get("/models")
    assert len(good(Caller(caller.service, key="").get("/models"))["data"]) == 2
    assert len(good(Caller(caller.service).get("/models"))["data"]) == 2


def only_for_others(bad_key: str) -> scenarios.Scenario:
    """A provider that refuses this key, and shows its list to everybody else."""

    async def play(exchange: Exchange) -> None:
        refused = exchange.request.headers.get("authorization") == f"Bearer {bad_key}"
        await (scenarios.status(401) if refused else scenarios.models())(exchange)

    return play


def test_the_demonstration_has_a_list_too(make_service: MakeService) -> None:
    caller = Caller(make_service(LLM_PROVIDER="demo"), key="")
    models = good(caller.get("/models"))["data"]
    assert [model["id"] for model in models] == [caller.chat("Oi")["model_used"]]
