"""Another model answers where the first did not accept the request, and the record says so."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chat.engine.asking.draft import Draft
from chat.engine.asking.fallbacks import ask_in_order
from chat.providers.base import ProviderError
from chat.providers.circuit import THRESHOLD
from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.scenarios import Scenario
from testing.service import Service
from testing.upstream import Upstream
from tests.support import replies

BUSY = scenarios.status(429, headers={"Retry-After": "20"})  # too long to wait for

BOTH_WAYS = pytest.mark.parametrize("stream", [False, True], ids=["json", "events"])


@pytest.fixture
def caller(front: Service) -> Caller:
    return Caller(front)


def models_of(upstream: Upstream) -> list[str]:
    """The models that were asked, in order."""
    return [request.body["model"] for request in upstream.requests]


def said(answer: Scenario) -> Scenario:
    """The model "a" gives this answer; "b" replies."""
    return scenarios.by_model({"a": answer, "b": scenarios.ok("Do b")})


def ask(caller: Caller, stream: bool, **body: Any) -> dict[str, Any]:
    """The answer, or the data of `done`."""
    whole = {"message": "Oi", "model": "a", **body}
    return dict(caller.stream("/chat", **whole)[-1].data) if stream else good(caller.post("/chat", **whole))


def notes(*refused: tuple[str, str]) -> list[dict[str, str]]:
    return [{"model": model, "code": code} for model, code in refused]


NOT_ACCEPTED = {
    "rate limit": (scenarios.status(429), "provider_rate_limited"),
    "rate limit with a pause": (BUSY, "provider_rate_limited"),
    "rate limit in words": (
        scenarios.status(429, {"error": {"type": "rate_limit_error", "message": "slow down"}}),
        "provider_rate_limited",
    ),
    "rate limit as text": (scenarios.status(429, b"Too Many Requests"), "provider_rate_limited"),
    "unavailable": (scenarios.status(503), "provider_unavailable"),
    "unavailable for long": (scenarios.status(503, headers={"Retry-After": "600"}), "provider_unavailable"),
    "unavailable, says a proxy": (scenarios.html(503), "provider_unavailable"),
    "overloaded": (
        scenarios.status(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        "provider_unavailable",
    ),
    "unknown model": (scenarios.status(404, scenarios.UNKNOWN_MODEL), "unsupported_model"),
}


@BOTH_WAYS
@pytest.mark.parametrize("kind", NOT_ACCEPTED)
def test_the_next_model_answers_where_the_first_did_not_accept(
    caller: Caller, upstream: Upstream, kind: str, stream: bool
) -> None:
    refusal, code = NOT_ACCEPTED[kind]
    upstream.otherwise = said(refusal)
    answer = ask(caller, stream, fallback_models=["b"])
    assert (answer["response"], answer["model_used"], answer["fallbacks"]) == ("Do b", "b", notes(("a", code)))
    assert models_of(upstream) == ["a", "b"]
    reply = caller.messages(answer["session_id"])[1]
    assert (reply["model"], reply["metadata"]) == ("b", {"fallbacks": answer["fallbacks"]})
    assert good(caller.get(f"/turns/{answer['turn_id']}"))["answer"] == answer


MAYBE_ACCEPTED = {
    "refused request": (scenarios.status(400), 400, "invalid_request"),
    "too long": (scenarios.status(400, {"error": {"code": "context_length_exceeded"}}), 400, "context_length_exceeded"),
    "bad key": (scenarios.status(401), 401, "provider_auth_failed"),
    "no credit": (scenarios.status(402), 402, "provider_payment_required"),
    "not allowed": (scenarios.status(403), 403, "permission_denied"),
    "moderated": (
        scenarios.status(403, {"error": {"code": 403, "metadata": {"reasons": ["x"]}}}),
        403,
        "content_moderated",
    ),
    "time-out": (scenarios.status(408), 504, "provider_timeout"),
    "failure": (scenarios.status(500), 502, "provider_error"),
    "page": (scenarios.html(502), 502, "provider_error"),
    "time-out of a proxy": (scenarios.status(524), 504, "provider_timeout"),
    "reset": (scenarios.reset(), 502, "provider_unreachable"),
    "no text": (scenarios.null_content(), 502, "provider_invalid_response"),
    "no end": (scenarios.truncated(), 502, "provider_invalid_response"),
    "rate limit after text": (scenarios.error_mid_stream(429), 429, "provider_rate_limited"),
    "unavailable after text": (scenarios.error_mid_stream(503), 503, "provider_unavailable"),
    "rate limit within a 200": (scenarios.error_in_200(429), 429, "provider_rate_limited"),
    "unknown model within a 200": (scenarios.error_in_200("model_not_found"), 400, "unsupported_model"),
}


@pytest.mark.parametrize("kind", MAYBE_ACCEPTED)
def test_nobody_else_is_asked_where_it_may_have_been_accepted_or_would_fail_again(
    caller: Caller, upstream: Upstream, kind: str
) -> None:
    fault, status, code = MAYBE_ACCEPTED[kind]
    upstream.otherwise, session = said(fault), new_id()
    body = {"message": "Oi", "model": "a", "session_id": session, "fallback_models": ["b", "c"]}
    problem(caller.post("/chat", **body), status, code)
    assert models_of(upstream) == ["a"]
    reply = caller.messages(session)[1]
    assert (reply["status"], reply["error"]["code"], reply["metadata"]) == ("failed", code, {})


def test_a_stream_that_broke_is_not_continued_by_another_model(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = said(scenarios.error_mid_stream(503, "Até aqui"))
    *_, last = caller.stream("/chat", message="Oi", model="a", fallback_models=["b"])
    assert (last.name, last.data["code"]) == ("error", "provider_unavailable")
    assert models_of(upstream) == ["a"]


@BOTH_WAYS
def test_models_are_asked_in_order_and_each_once(caller: Caller, upstream: Upstream, stream: bool) -> None:
    upstream.otherwise = scenarios.by_model({"a": BUSY, "c": scenarios.ok("Do c"), "d": scenarios.ok("Do d")})
    answer = ask(caller, stream, fallback_models=["a", "b", "b", "c", "d"])
    assert answer["model_used"] == "c"
    assert answer["fallbacks"] == notes(("a", "provider_rate_limited"), ("b", "unsupported_model"))
    assert models_of(upstream) == ["a", "b", "c"]


def test_the_stream_names_the_model_that_answers_from_its_start(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = said(BUSY)
    first, *_ = caller.stream("/chat", message="Oi", model="a", fallback_models=["b"])
    assert (first.name, first.data["model"]) == ("start", "b")


def test_the_session_keeps_its_model_and_no_fallbacks(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = said(BUSY)
    session = ask(caller, False, fallback_models=["b"])["session_id"]
    assert caller.session(session)["model"] == "a"
    problem(caller.post("/chat", message="E agora?", session_id=session), 429, "provider_rate_limited")
    upstream.otherwise = said(scenarios.ok("Do a"))
    answer = caller.chat("E agora?", session_id=session, fallback_models=["b"])
    assert answer["model_used"] == "a"
    assert "fallbacks" not in answer
    assert models_of(upstream) == ["a", "b", "a", "a"]


def test_where_none_accepted_the_error_is_the_first_models(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise, session = scenarios.by_model({"a": BUSY}), new_id()
    body = {"message": "Oi", "model": "a", "session_id": session, "fallback_models": ["b", "c"]}
    refused = caller.post("/chat", **body)
    error = problem(refused, 429, "provider_rate_limited")
    assert (error["retry_after"], error["may_have_been_billed"]) == (20, False)
    assert models_of(upstream) == ["a", "b", "c"]
    reply = caller.messages(session)[1]
    asked = notes(("a", "provider_rate_limited"), ("b", "unsupported_model"), ("c", "unsupported_model"))
    assert (reply["status"], reply["model"], reply["metadata"]) == ("failed", "a", {"fallbacks": asked})
    assert reply["usage"]["total_tokens"] == 0


@pytest.mark.parametrize("fault, code", [(402, "provider_payment_required"), (400, "invalid_request")])
def test_what_would_fail_again_ends_the_search(caller: Caller, upstream: Upstream, fault: int, code: str) -> None:
    upstream.otherwise, session = scenarios.by_model({"a": BUSY, "b": scenarios.status(fault)}), new_id()
    body = {"message": "Oi", "model": "a", "session_id": session, "fallback_models": ["b", "c"]}
    problem(caller.post("/chat", **body), 429, "provider_rate_limited")
    assert models_of(upstream) == ["a", "b"]
    assert caller.messages(session)[1]["metadata"] == {"fallbacks": notes(("a", "provider_rate_limited"), ("b", code))}


def test_where_a_later_model_accepted_and_failed_the_error_is_its_own(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = scenarios.by_model({"a": BUSY, "b": scenarios.truncated("Uma resposta que")})
    session = new_id()
    body = {"message": "Oi", "model": "a", "session_id": session, "fallback_models": ["b", "c"]}
    error = problem(caller.post("/chat", **body), 502, "provider_invalid_response")
    assert error["may_have_been_billed"]
    reply = caller.messages(session)[1]
    assert (reply["content"], reply["model"]) == ("Uma resposta que", "b")
    assert reply["metadata"] == {"fallbacks": notes(("a", "provider_rate_limited"))}
    assert models_of(upstream) == ["a", "b"]


def test_a_cancelled_turn_keeps_the_text_of_the_model_that_answered(caller: Caller, upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.otherwise = scenarios.by_model({"b": scenarios.gated(gate, scenarios.rest("fim"), after="O começo ")})
    body = {"message": "Oi", "model": "a", "session_id": session, "fallback_models": ["b"]}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.post, "/chat", **body)
        upstream.wait_until(lambda: upstream.count == 2)
        turn = caller.messages(session)[1]["turn_id"]
        wait_until(lambda: good(caller.get(f"/turns/{turn}"))["text"] != "")
        cancelled = good(caller.post(f"/turns/{turn}/cancel"))["answer"]
        gate.set()
        assert good(asking.result())["fallbacks"] == cancelled["fallbacks"] == notes(("a", "unsupported_model"))
    assert (cancelled["response"], cancelled["model_used"]) == ("O começo ", "b")


@BOTH_WAYS
def test_a_repeated_request_is_answered_with_the_same_bytes(caller: Caller, upstream: Upstream, stream: bool) -> None:
    upstream.otherwise = said(BUSY)
    body = {"message": "Oi", "model": "a", "fallback_models": ["b"], "stream": stream}
    first, second = (caller.call("POST", "/chat", json=body, headers={"Idempotency-Key": "chave"}) for _ in range(2))
    assert second.headers["idempotent-replayed"] == "true"
    assert '"fallbacks": [{' in first.text
    if not stream:
        assert first.content == second.content
    other = caller.call("POST", "/chat", json=body | {"fallback_models": ["c"]}, headers={"Idempotency-Key": "chave"})
    problem(other, 422, "idempotency_mismatch")
    assert models_of(upstream) == ["a", "b"]


def test_the_history_and_max_tokens_fit_the_model_that_is_asked(caller: Caller, upstream: Upstream) -> None:
    """“a” is not listed; scripted/small has a context of 8192 tokens, and writes at most 1024."""
    session, long = new_id(), "palavra " * 1500
    upstream.otherwise = scenarios.by_model({}, scenarios.ok("Sim"))
    for _ in range(3):
        caller.chat(long, model="a", session_id=session)
    upstream.otherwise = scenarios.by_model({"a": BUSY, "scripted/small": scenarios.ok("Sim")})
    body = {"message": "Oi", "max_tokens": 4000, "session_id": session, "fallback_models": ["scripted/small"]}
    answer = caller.post("/chat", **body)
    assert good(answer)["model_used"] == "scripted/small"
    first, second = upstream.requests[-2:]
    assert (first.body["max_tokens"], len(first.messages)) == (4000, 7)
    assert (second.body["max_tokens"], len(second.messages)) == (1024, 3)
    assert answer.headers["x-history-omitted"] == "4"


def test_a_model_that_keeps_failing_is_passed_over(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = said(scenarios.status(529))
    answers = [ask(caller, False, fallback_models=["b"]) for _ in range(THRESHOLD + 1)]
    assert [answer["fallbacks"] for answer in answers] == [notes(("a", "provider_unavailable"))] * len(answers)
    assert models_of(upstream) == ["a", "b"] * THRESHOLD + ["b"]
    alone = problem(caller.post("/chat", message="Oi", model="a"), 503, "provider_unavailable")
    assert "turn_id" not in alone  # nobody else could have answered, so nothing was stored
    upstream.otherwise = scenarios.status(529)
    for _ in range(THRESHOLD):
        problem(caller.post("/chat", message="Oi", model="b"), 503, "provider_unavailable")
    both = problem(caller.post("/chat", message="Oi", model="a", fallback_models=["b"]), 503, "provider_unavailable")
    assert "turn_id" not in both


# Whether to wait for the same model

PAUSES = {
    "no pause named": (scenarios.status(429), 1),
    "a short one": (scenarios.status(429, headers={"Retry-After": "0"}), 3),
    "a long one": (scenarios.status(429, headers={"Retry-After": "2"}), 1),
    "unavailable": (scenarios.status(503), 1),
    "unavailable, a short one": (scenarios.status(503, headers={"Retry-After": "0"}), 3),
}


@pytest.mark.parametrize("kind", PAUSES)
def test_with_another_model_at_hand_only_a_short_pause_is_waited_out(upstream: Upstream, kind: str) -> None:
    upstream.otherwise, times = PAUSES[kind]
    assert replies.ask(replies.provider_for(upstream), has_fallback=True).error is not None
    assert upstream.count == times


def test_a_request_without_fallbacks_is_sent_again_as_ever(upstream: Upstream) -> None:
    upstream.otherwise = scenarios.status(503)
    assert replies.ask(replies.provider_for(upstream)).error is not None
    assert upstream.count == 3


# What no server has to be asked for

CODES = {
    "provider_rate_limited": True,
    "provider_unavailable": True,
    "unsupported_model": True,
    "provider_unreachable": False,
    "provider_timeout": False,
    "provider_error": False,
    "provider_auth_failed": False,
    "internal_error": False,
}


@pytest.mark.parametrize("billed", [False, True])
@pytest.mark.parametrize("code, goes_on", CODES.items())
def test_only_what_another_model_may_not_share_sends_a_turn_on(code: str, goes_on: bool, billed: bool) -> None:
    asked: list[str] = []

    async def refuse(model: str) -> None:
        asked.append(model)
        raise ProviderError(code, may_have_been_billed=billed)

    with pytest.raises(ProviderError) as raised:
        asyncio.run(ask_in_order(["a", "b"], refuse, Draft("turn", "provider")))
    assert asked == (["a", "b"] if goes_on and not billed else ["a"])
    assert (raised.value.code, raised.value.may_have_been_billed) == (code, billed)
