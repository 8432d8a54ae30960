"""Faults of the provider: each has its own code, and is stored."""

import pytest

from testing import scenarios
from testing.client import Caller, problem
from testing.service import Service
from testing.upstream import Upstream


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def roles(upstream: Upstream) -> list[tuple[str, str]]:
    """The body of the last upstream request."""
    return [(message["role"], message["content"]) for message in upstream.requests[-1].messages]


FAULTS = [
    (scenarios.status(400), 400, "invalid_request"),
    (scenarios.status(400, {"error": {"code": "context_length_exceeded"}}), 400, "context_length_exceeded"),
    (scenarios.status(401), 401, "provider_auth_failed"),
    (scenarios.status(402), 402, "provider_payment_required"),
    (scenarios.status(403), 403, "permission_denied"),
    (scenarios.status(403, {"error": {"code": 403, "metadata": {"reasons": ["x"]}}}), 403, "content_moderated"),
    (scenarios.status(404), 502, "provider_error"),
    (scenarios.status(404, {"error": "the model is not found"}), 400, "unsupported_model"),
    (scenarios.status(408), 504, "provider_timeout"),
    (scenarios.status(413), 400, "invalid_request"),
    (scenarios.status(422), 400, "invalid_request"),
    (scenarios.status(500), 502, "provider_error"),
    (scenarios.html(502), 502, "provider_error"),
    (scenarios.status(524), 504, "provider_timeout"),
    (scenarios.status(529), 503, "provider_unavailable"),
    (scenarios.reset(), 502, "provider_unreachable"),
    (scenarios.null_content(), 502, "provider_invalid_response"),
    (scenarios.truncated(), 502, "provider_invalid_response"),
    (scenarios.error_in_200(), 502, "provider_error"),
]  # fmt: skip


@pytest.mark.parametrize("fault, status, code", FAULTS, ids=[f"{n}-{fault[2]}" for n, fault in enumerate(FAULTS)])
def test_a_fault_upstream_has_its_own_code_and_is_stored(
    caller: Caller, upstream: Upstream, fault: scenarios.Scenario, status: int, code: str
) -> None:
    session = caller.chat("Antes")["session_id"]
    upstream.script(fault, fault)  # where the history seems to be too long, the turn is asked once more with less
    error = problem(caller.post("/chat", message="Esta falha", session_id=session), status, code)
    upstream.clear()
    assert "the provider's own words" not in str(error)
    failed = caller.messages(session)[3]
    assert (failed["status"], failed["error"]["code"]) == ("failed", code)
    assert failed["error"]["may_have_been_billed"] == error["may_have_been_billed"]
    assert error["turn_id"] == failed["turn_id"]


def test_a_failed_turn_is_left_out_of_the_next_history(caller: Caller, upstream: Upstream) -> None:
    session = caller.chat("Antes")["session_id"]
    upstream.script(scenarios.status(500))
    problem(caller.post("/chat", message="Esta falha", session_id=session), 502, "provider_error")
    caller.chat("Depois", session_id=session)
    assert roles(upstream) == [("user", "Antes"), ("assistant", "Eco (1): Antes"), ("user", "Depois")]


def test_rate_limits_say_when_to_come_back(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = scenarios.status(429, headers={"Retry-After": "17"})
    response = caller.post("/chat", message="Oi")
    assert problem(response, 429, "provider_rate_limited")["retry_after"] == 17
    assert response.headers["retry-after"] == "17"


def test_a_refused_key_of_the_caller_is_401(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.status(401))
    problem(caller.post("/api/message", message="Oi"), 401, "provider_auth_failed")


def test_a_fault_is_told_the_same_by_both_apis(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.status(402), scenarios.status(402))
    bodies = [
        problem(caller.post(path, message="Oi"), 402, "provider_payment_required") for path in ("/chat", "/api/message")
    ]
    assert bodies[0].keys() == bodies[1].keys()


def test_an_upstream_that_says_nothing_is_a_time_out(tuned_service: Service, upstream: Upstream) -> None:
    caller = Caller(tuned_service)
    upstream.script(scenarios.hang(after="Até aqui"))
    error = problem(caller.post("/chat", message="Oi", session_id="lenta"), 504, "provider_timeout")
    assert error["may_have_been_billed"] is True
    reply = caller.messages("lenta")[1]
    assert (reply["status"], reply["content"]) == ("failed", "Até aqui")
