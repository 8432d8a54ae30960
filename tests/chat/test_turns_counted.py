"""What the provider counted is on record, of failed turns too, and counts for budgets."""

import json

import pytest

from testing import scenarios
from testing.client import Caller, problem
from testing.exchange import event
from testing.service import Service
from testing.upstream import Upstream

USED = {"prompt_tokens": 30, "completion_tokens": 1000, "total_tokens": 1030, "cost": 0.02}


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service, Accept_Language="en")


def thought() -> scenarios.Scenario:
    """All of max_tokens went into thinking."""
    thinking = event({"model": "m", "choices": [{"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}]})
    end = event({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "length"}]})
    return scenarios.raw(thinking, end, event({"choices": [], "usage": USED}), scenarios.DONE)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_was_all_thinking_names_max_tokens_and_what_it_cost(
    caller: Caller, upstream: Upstream, stream: bool
) -> None:
    upstream.script(thought())
    response = caller.post("/chat", message="Pense", session_id=f"tudo-{stream}", stream=stream)
    error = problem(response, 502, "provider_invalid_response")
    assert "max_tokens" in error["detail"]
    failed = caller.messages(f"tudo-{stream}")[1]
    assert (failed["status"], failed["finish_reason"]) == ("failed", "length")
    usage = failed["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["cost"]) == (30, 1000, 0.02)
    assert "estimated" not in usage
    later = caller.get(f"/turns/{error['turn_id']}").json()["error"]
    assert later["detail"] == error["detail"]


def test_the_same_error_comes_again_with_the_same_key(service: Service, upstream: Upstream) -> None:
    upstream.script(thought())
    caller = Caller(service, Accept_Language="en", Idempotency_Key="pensou-tudo")
    first, again = (caller.post("/chat", message="Pense") for _ in range(2))
    assert "max_tokens" in first.json()["detail"]
    assert first.json()["detail"] == again.json()["detail"]
    assert upstream.count == 1


def test_an_event_stream_that_had_begun_keeps_text_and_counts_of_a_broken_reply(
    caller: Caller, upstream: Upstream
) -> None:
    said = {"model": "m", "choices": [{"index": 0, "delta": {"content": "Até "}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {"content": "aqui"}, "finish_reason": "insufficient_system_resource"}]}
    upstream.script(scenarios.raw(event(said), event(end), event({"choices": [], "usage": USED}), scenarios.DONE))
    body = caller.post("/chat", message="Oi", session_id="partida", stream=True).text
    assert json.loads(body.rpartition("data: ")[2])["code"] == "provider_unavailable"
    failed = caller.messages("partida")[1]
    assert (failed["status"], failed["content"], failed["usage"]["cost"]) == ("failed", "Até aqui", 0.02)


def test_the_session_adds_up_what_failed_turns_cost(caller: Caller, upstream: Upstream) -> None:
    upstream.script(thought(), scenarios.ok("Olá", usage=scenarios.usage(10, 5, 0.01)))
    caller.post("/chat", message="Pense", session_id="soma")
    caller.chat("Responda", session_id="soma")
    usage = caller.get("/sessions/soma").json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], round(usage["cost"], 6)) == (40, 1005, 0.03)
