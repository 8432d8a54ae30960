"""How many calls a request that is put right may take, with what else happens on the way; and what the log says."""

import logging
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, new_id, problem
from testing.exchange import Exchange
from testing.scenarios import Scenario
from testing.service import Service
from testing.upstream import Upstream
from tests.support.replies import ask, provider_for

BUSY = scenarios.status(429)
GOOD = {"stream": scenarios.ok("Pronto"), "JSON": scenarios.plain_json("Pronto")}


def refused(*names: str) -> Scenario:
    words = (f"Unsupported parameter: '{name}' is not supported with this model." for name in names)
    return scenarios.status(400, {"error": {"message": " ".join(words)}})


def refusing(*names: str, then: Scenario) -> Scenario:
    """A model that names the first of `names` that a request has."""

    async def play(exchange: Exchange) -> None:
        found = next((name for name in names if name in exchange.request.body), None)
        await (refused(found) if found else then)(exchange)

    return play


@pytest.mark.parametrize("good", GOOD)
def test_a_rate_limit_on_the_way_is_waited_for(upstream: Upstream, good: str) -> None:
    upstream.script(BUSY, refused("temperature"), BUSY, GOOD[good])
    assert ask(provider_for(upstream), temperature=0.3).text == "Pronto"
    assert upstream.count == 4


def test_retries_are_counted_over_all_of_it(upstream: Upstream) -> None:
    upstream.script(BUSY, refused("temperature"), BUSY, refused("stream_options"), BUSY, GOOD["stream"])
    assert ask(provider_for(upstream), temperature=0.3).failure.code == "provider_rate_limited"
    assert upstream.count == 5


def test_repairs_take_no_retry_away(upstream: Upstream) -> None:
    upstream.script(*map(refused, ("temperature", "stream_options", "plugins")), BUSY, BUSY, GOOD["stream"])
    assert ask(provider_for(upstream), temperature=0.3).text == "Pronto"
    assert upstream.count == 6


MANY = ("max_tokens", "temperature", "stream_options", "session_id", "plugins")


@pytest.mark.parametrize("good", GOOD)
def test_what_one_turn_can_t_find_out_the_next_one_does(service: Service, upstream: Upstream, good: str) -> None:
    caller = Caller(service)
    turn: dict[str, Any] = {"message": "Oi", "model": new_id("m"), "temperature": 0.3}
    upstream.otherwise = refusing(*MANY, then=GOOD[good])
    problem(caller.post("/chat", **turn), 400, "invalid_request")
    for _ in range(2):
        answer = caller.chat(**turn)
        assert (answer["response"], answer["parameters_left_out"]) == ("Pronto", list(MANY[1:]))
    assert upstream.count == 4 + 3 + 1


def test_a_model_that_refuses_the_same_for_ever_teaches_nothing(upstream: Upstream) -> None:
    refusals = (refused("temperature"), refused("stream_options"), refused("plugins"), refused("temperature"))
    provider = provider_for(upstream)
    upstream.script(*refusals)
    assert ask(provider, temperature=0.3).failure.code == "invalid_request"
    assert ask(provider, temperature=0.3).error is None
    assert "temperature" in upstream.requests[-1].body


def test_the_log_names_what_was_refused_and_not_its_value(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.script(refused("temperature", "plugins"), GOOD["stream"])
    with caplog.at_level(logging.INFO):
        ask(provider_for(upstream), temperature=0.3125)
    (line,) = [record for record in caplog.records if "refused" in record.getMessage()]
    assert vars(line)["refused"] == "temperature, plugins"
    assert "0.3125" not in caplog.text
