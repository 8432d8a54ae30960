"""Budgets where several models may answer: the dearest is set aside for, and who answered is paid."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from access.budgets import Offer, Quote
from access.callers import Limits
from testing import scenarios
from testing.client import Caller, good, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.support.keys import Client
from tests.support.services import Services

CENT = Decimal("0.01")
LIMITED: dict[str, Any] = {"turns_in_flight": 0, "tokens_per_day": 100_000, "cost_per_month": "1"}
# A turn with the message "Oi" reserves 12 tokens for its prompt, and max_tokens; it uses 30 tokens.
TURN: dict[str, Any] = {"message": "Oi", "model": "cheap", "max_tokens": 88, "fallback_models": ["dear"]}
UNPRICED = scenarios.usage(20, 10, cost=None)


def priced(name: str, price: str) -> dict[str, Any]:
    return {**scenarios.model(name), "pricing": {"prompt": price, "completion": price, "request": "0"}}


@pytest.fixture
def limited(services: Services, upstream: Upstream) -> Client:
    """A client with a budget of 1 USD. A token of “cheap” costs 0.0001 USD, one of “dear” a cent."""
    upstream.models = scenarios.models({"data": [priced("cheap", "0.0001"), priced("dear", "0.01")]})
    service: Service = services.shared(MODELS_CACHE_SECONDS="0", ACCESS_MODE="keys")
    good(Caller(service, "").get("/models"))  # the list of before is not kept
    return Client(service, **LIMITED)


def reserved(client: Client) -> tuple[int, Decimal]:
    """Tokens and USD of the client's only turn."""
    query = "SELECT tokens, cost FROM access_reservation WHERE owner = %s"
    [(tokens, cost)] = client.service.sql(query, client.owner)
    return tokens, Decimal(str(cost)).quantize(CENT / 100)


@pytest.mark.parametrize(
    "answers, cost",
    [
        ({"cheap": scenarios.ok("Olá", usage=UNPRICED)}, 30 * CENT / 100),
        ({"dear": scenarios.ok("Olá", usage=UNPRICED)}, 30 * CENT),
        ({"dear": scenarios.ok("Olá", usage=scenarios.usage(20, 10, 0.25))}, Decimal("0.25")),
        ({}, Decimal(0)),
    ],
    ids=["the first, without a cost", "the second, without a cost", "the provider names a cost", "none"],
)
def test_who_answered_is_paid(limited: Client, upstream: Upstream, answers: Any, cost: Decimal) -> None:
    upstream.otherwise = scenarios.by_model(answers)
    limited.caller().post("/chat", **TURN)
    assert reserved(limited) == (30 if cost else 0, cost)


@pytest.mark.parametrize(
    "answers, cost",
    [({"cheap": scenarios.reset()}, CENT), ({"dear": scenarios.reset()}, 100 * CENT)],
    ids=["the first", "the second"],
)
def test_of_an_unknown_usage_the_most_counts_of_the_model_that_may_have_accepted(
    limited: Client, upstream: Upstream, answers: Any, cost: Decimal
) -> None:
    upstream.otherwise = scenarios.by_model(answers)
    problem(limited.caller().post("/chat", **TURN), 502, "provider_unreachable")
    assert reserved(limited) == (100, cost)


def test_the_dearest_is_set_aside_for_while_the_cheapest_answers(limited: Client, upstream: Upstream) -> None:
    gate, caller = threading.Event(), limited.caller()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Olá", usage=UNPRICED))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", **TURN)
        upstream.wait_until(lambda: upstream.count == 1)
        held = reserved(limited)
        gate.set()
        good(asking.result())
    assert held == (100, 100 * CENT)
    assert reserved(limited) == (30, 30 * CENT / 100)


def test_a_budget_that_the_dearest_exceeds_refuses_the_turn(limited: Client, upstream: Upstream) -> None:
    caller = limited.caller()
    error = problem(caller.post("/chat", **TURN | {"max_tokens": 89}), 402, "budget_exhausted")
    assert (error["limit"], error["wanted"]) == ("cost_per_month", 1.01)
    good(caller.post("/chat", **TURN | {"max_tokens": 89, "fallback_models": []}))
    assert upstream.count == 1


def test_a_model_without_a_price_lets_one_turn_run_at_a_time(limited: Client, upstream: Upstream) -> None:
    gate, caller = threading.Event(), limited.caller()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Olá", usage=UNPRICED))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", message="Oi", model="cheap")
        upstream.wait_until(lambda: upstream.count == 1)
        refused = caller.post("/chat", message="Oi", model="cheap", fallback_models=["unlisted"])
        gate.set()
        good(asking.result())
    assert problem(refused, 429, "rate_limited")["limit"] == "turns_in_flight"


def test_a_hold_is_for_the_turn_that_uses_most_whatever_makes_it_dear() -> None:
    offers = {
        "long replies": Offer(context=1000, max_tokens=900, prompt_price=Decimal(1), completion_price=Decimal(1)),
        "small context": Offer(context=10, max_tokens=10, prompt_price=Decimal(500), completion_price=Decimal(1)),
        "per request": Offer(context=1000, max_tokens=1, per_request=Decimal(2000)),
    }
    quote = Quote(Limits(), offers)
    hold = quote.hold("turn", "owner", prompt_tokens=50)
    assert (hold.tokens, hold.cost, hold.priced) == (950, Decimal(5010), True)
    assert quote.cost("long replies", 50, 2) == 52
    assert quote.cost("another", 50, 2) == Decimal(25_002)  # the session's model changed meanwhile: the dearest
