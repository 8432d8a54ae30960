"""The record of turns from POST /chat and POST /api/message, and GET /turns/{id}."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.service import Service
from testing.upstream import Upstream


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def test_persona_and_timing_are_stored(caller: Caller) -> None:
    timing = {"digitando_ms": 1200, "lista": [1, 2.5, None, {"ção": "é"}], "zero": 0}
    body = {"persona_id": "idoso-01", "timing_metadata": timing}
    session = good(caller.post("/api/message", message="Oi", **body))["session_id"]
    assert caller.session(session)["persona_id"] == "idoso-01"
    question, reply = caller.messages(session)
    assert question["metadata"] == {"timing_metadata": timing}
    assert reply["metadata"] == {}


def test_a_later_message_without_a_persona_keeps_it(caller: Caller) -> None:
    session = good(caller.post("/api/message", message="Oi", persona_id="idoso-01"))["session_id"]
    good(caller.post("/api/message", message="Oi", session_id=session))
    assert caller.session(session)["persona_id"] == "idoso-01"
    good(caller.post("/api/message", message="Oi", session_id=session, persona_id="jovem-02"))
    assert caller.session(session)["persona_id"] == "jovem-02"


def test_a_reply_is_stored_with_all_that_is_known_of_it(caller: Caller, service: Service, upstream: Upstream) -> None:
    upstream.reply("Olá", usage=scenarios.usage(12, 3, 0.00025), headers={"X-Generation-Id": "gen-da-origem"})
    answer = caller.chat("Oi")
    row = service.sql(
        "SELECT role, content, status, model, provider, generation_id, finish_reason, prompt_tokens, "
        "completion_tokens, cached_tokens, reasoning_tokens, error_code, runner <> '' FROM sessions_api_message "
        "WHERE turn_id = %s AND position = 1",
        answer["turn_id"],
    )[0]
    assert row[:-1] == (
        "assistant", "Olá", "completed", "test/model", "Scripted", "gen-da-origem", "stop", 12, 3, 4, 2, "",
    )  # fmt: skip
    question, reply = caller.messages(answer["session_id"])
    assert question["turn_id"] == reply["turn_id"] == answer["turn_id"]
    assert reply["latency_ms"] >= reply["first_token_ms"] >= 0
    assert reply["usage"] == answer["usage"]
    assert (question["role"], question["status"], question["usage"], question["error"]) == (
        "user",
        "completed",
        None,
        None,
    )


@pytest.mark.parametrize("cost", ["0.000000000001", "0.1", "999.000000000001", "0"])
def test_a_cost_is_stored_exactly(caller: Caller, service: Service, upstream: Upstream, cost: str) -> None:
    upstream.reply("Olá", usage={**scenarios.usage(), "cost": cost})
    turn = caller.chat("Oi")["turn_id"]
    query = "SELECT cost FROM sessions_api_message WHERE turn_id = %s AND position = 1"
    stored = service.sql(query, turn)[0][0]
    assert Decimal(repr(stored) if isinstance(stored, float) else stored) == Decimal(cost)


def test_a_session_totals_its_turns_to_the_last_digit(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    for prompt, cost in ((10, "0.1"), (20, "0.2"), (30, "0.000000000003")):
        upstream.reply("Olá", usage={**scenarios.usage(prompt, 5), "cost": cost})
        caller.chat("Oi", session_id=session)
    found = caller.session(session)
    assert found["usage"] == {
        "prompt_tokens": 60, "completion_tokens": 15, "total_tokens": 75, "cost": 0.300000000003,
    }  # fmt: skip
    assert found["message_count"] == 6


def test_missing_usage_is_estimated_and_says_so(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.no_usage("Uma resposta sem contagem"))
    answer = caller.chat("Quanto custa?")
    assert answer["usage"]["estimated"] is True
    assert answer["usage"]["prompt_tokens"] > 0
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["tokens_used"] == answer["usage"]["total_tokens"]
    assert caller.messages(answer["session_id"])[1]["usage"]["estimated"] is True


def test_counted_usage_is_not_called_estimated(caller: Caller) -> None:
    assert "estimated" not in caller.chat("Oi")["usage"]


# GET /turns/{id}


def test_a_turn_is_shown_while_it_runs_and_after(caller: Caller, upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.chat, "Oi", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        turn_id = caller.messages(session)[1]["turn_id"]
        upstream.wait_until(lambda: good(caller.get(f"/turns/{turn_id}"))["text"] == "O começo ")
        running = good(caller.get(f"/turns/{turn_id}"))
        gate.set()
        answer = asking.result()
    assert running.items() >= {"turn_id": turn_id, "session_id": session, "status": "pending"}.items()
    assert (running["answer"], running["error"]) == (None, None)
    done = good(caller.get(f"/turns/{turn_id}"))
    assert (done["status"], done["text"]) == ("completed", "O começo e o fim")
    shown = done["answer"]
    assert shown.pop("timestamp")[:19] == answer.pop("timestamp")[:19]
    assert shown == answer


def test_a_failed_turn_is_shown_with_its_error(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.error_mid_stream(402, "Até aqui"))
    error = problem(caller.post("/chat", message="Oi"), 402, "provider_payment_required")
    shown = good(caller.get(f"/turns/{error['turn_id']}"))
    assert (shown["status"], shown["text"], shown["answer"]) == ("failed", "Até aqui", None)
    assert shown["error"]["code"] == "provider_payment_required"


def test_a_turn_that_is_not_there_is_404(caller: Caller) -> None:
    for turn_id in ("nao-existe", "x" * 64, "A" * 22):
        problem(caller.get(f"/turns/{turn_id}"), 404, "turn_not_found")


def test_a_turn_of_a_closed_session_is_gone(caller: Caller) -> None:
    answer = caller.chat("Oi")
    good(caller.call("DELETE", f"/sessions/{answer['session_id']}"))
    problem(caller.get(f"/turns/{answer['turn_id']}"), 404, "turn_not_found")
