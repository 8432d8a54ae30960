"""POST /chat and POST /api/message: what is asked, sent on, answered and stored."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from tests import scenarios
from tests.client import Caller, good, new_id, problem, service_with, wait_until
from tests.conftest import MakeService
from tests.service import Service
from tests.upstream import Upstream

BOTH = pytest.mark.parametrize("path", ["/chat", "/api/message"])


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture(scope="module")
def own_service(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    prompts = {"BANCOBOT_SYSTEM_PROMPT": "Sou o banco.", "CHAT_SYSTEM_PROMPT": "Sou o chat."}
    with service_with(tmp_path_factory, _upstream, SESSION_BUSY_WAIT_SECONDS="0.2", **prompts) as service:
        yield service


def roles(upstream: Upstream) -> list[tuple[str, str]]:
    """What the last request upstream said."""
    return [(message["role"], message["content"]) for message in upstream.requests[-1].messages]


# What is answered


def test_chat_answers_with_every_key_of_the_contract(caller: Caller, upstream: Upstream) -> None:
    upstream.reply("Olá!", usage=scenarios.usage(12, 3, 0.00025))
    answer = caller.chat("Oi")
    moment = answer.pop("timestamp")
    assert datetime.fromisoformat(moment).utcoffset() is not None
    assert re.fullmatch(r"[A-Za-z0-9_-]{22,}", answer.pop("session_id"))
    assert re.fullmatch(r"[A-Za-z0-9_-]{22,}", answer.pop("turn_id"))
    usage = answer.pop("usage")
    assert usage.items() >= {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15, "cost": 0.00025}.items()
    assert answer == {"response": "Olá!", "model_used": "test/model", "tokens_used": 15, "finish_reason": "stop"}


def test_a_message_answers_with_response_and_session(caller: Caller, upstream: Upstream) -> None:
    upstream.reply("Bom dia, em que posso ajudar?")
    answer = good(caller.post("/api/message", message="Bom dia", session_id="agencia-1"))
    assert (answer["response"], answer["session_id"]) == ("Bom dia, em que posso ajudar?", "agencia-1")


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/api/message", "/api/message/"])
def test_a_trailing_slash_makes_no_difference(caller: Caller, path: str) -> None:
    assert good(caller.post(path, message="Oi"))["response"].endswith(": Oi")


@BOTH
def test_unknown_keys_are_ignored(caller: Caller, path: str) -> None:
    assert good(caller.post(path, message="Oi", temperatura=9, messages=[{"role": "system"}], owner="outro"))


@pytest.mark.parametrize(
    "path, names",
    [
        ("/chat", ["model", "temperature", "max_tokens", "session_id", "system_prompt", "stream"]),
        ("/api/message", ["session_id", "persona_id", "timing_metadata", "stream"]),
    ],
)
def test_null_for_an_optional_key_means_absent(caller: Caller, path: str, names: list[str]) -> None:
    assert good(caller.post(path, message="Oi", **dict.fromkeys(names)))["response"].endswith(": Oi")


@BOTH
def test_an_empty_session_id_means_absent(caller: Caller, path: str) -> None:
    first, second = (good(caller.post(path, message="Oi", session_id="")) for _ in range(2))
    assert first["session_id"] != second["session_id"]
    assert first["session_id"] != ""


@BOTH
def test_a_text_comes_back_as_it_was_written(caller: Caller, upstream: Upstream, path: str) -> None:
    text = '  Ação\t"ção" <b>&amp;</b>\r\n\u2028 🙂👨‍👩‍👧 ﷽ e\u0301 \\u0041 \'; DROP TABLE x; -- %s {}  '
    upstream.reply(text, pieces=[text])
    answer = good(caller.post(path, message=text))
    assert answer["response"] == text
    assert roles(upstream)[-1] == ("user", text)
    assert caller.texts(answer["session_id"]) == [text, text]


@BOTH
def test_a_request_id_is_given_back(caller: Caller, path: str) -> None:
    response = caller.call("POST", path, json={"message": "Oi"}, headers={"X-Request-ID": "pedido-1:a.b_C"})
    assert response.headers.get_list("x-request-id") == ["pedido-1:a.b_C"]


@pytest.mark.parametrize("wish", [b"", b"a b", b"x" * 129, b'a"b', "ação".encode()])
def test_a_request_id_that_makes_no_sense_is_replaced(caller: Caller, wish: bytes) -> None:
    response = caller.call("GET", "/sessions", headers={b"X-Request-ID": wish})
    assert response.status_code == 200
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


# What goes upstream


def test_a_follow_up_takes_the_history_along_in_order(caller: Caller, upstream: Upstream) -> None:
    upstream.reply("Resposta um")
    session = caller.chat("Pergunta um")["session_id"]
    upstream.reply("Resposta dois")
    caller.chat("Pergunta dois", session_id=session)
    caller.chat("Pergunta três", session_id=session)
    assert roles(upstream) == [
        ("user", "Pergunta um"), ("assistant", "Resposta um"), ("user", "Pergunta dois"),
        ("assistant", "Resposta dois"), ("user", "Pergunta três"),
    ]  # fmt: skip


def test_both_apis_talk_in_one_session(caller: Caller, upstream: Upstream) -> None:
    session = caller.chat("Pelo chat")["session_id"]
    good(caller.post("/api/message", message="Pelo banco", session_id=session))
    assert [text for role, text in roles(upstream) if role == "user"] == ["Pelo chat", "Pelo banco"]


def test_the_options_of_a_request_go_upstream(caller: Caller, upstream: Upstream) -> None:
    caller.chat("Oi", model="scripted/large", temperature=0.25, max_tokens=77)
    sent = upstream.requests[0].body
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["stream"]) == (
        "scripted/large",
        0.25,
        77,
        True,
    )


def test_without_options_the_defaults_go_upstream(caller: Caller, upstream: Upstream) -> None:
    caller.chat("Oi")
    sent = upstream.requests[0].body
    assert (sent["model"], sent["max_tokens"]) == ("test/model", 1000)
    assert "temperature" not in sent


@pytest.mark.parametrize("temperature", [0, 2, 0.0])
def test_the_ends_of_the_temperature_scale_are_allowed(caller: Caller, upstream: Upstream, temperature: float) -> None:
    caller.chat("Oi", temperature=temperature)
    assert upstream.requests[0].body["temperature"] == temperature


def test_max_tokens_beyond_what_the_model_writes_is_refused(caller: Caller, upstream: Upstream) -> None:
    """The scripted models write 1,024 tokens at most."""
    good(caller.get("/models"))
    before = upstream.count
    error = problem(caller.post("/chat", message="Oi", max_tokens=1025, model="scripted/small"), 400, "invalid_request")
    assert "max_tokens" in error["errors"]
    assert upstream.count == before
    caller.chat("Oi", max_tokens=1024, model="scripted/small")


def test_max_tokens_beyond_what_the_session_s_model_writes_is_refused(caller: Caller, upstream: Upstream) -> None:
    good(caller.get("/models"))
    session = caller.chat("Oi", model="scripted/small")["session_id"]
    error = problem(caller.post("/chat", message="Oi", max_tokens=1025, session_id=session), 400, "invalid_request")
    assert "max_tokens" in error["errors"]
    assert upstream.count == 1
    caller.chat("Oi", max_tokens=1024, session_id=session)


def test_a_session_remembers_its_model_until_another_is_named(caller: Caller, upstream: Upstream) -> None:
    session = caller.chat("Um", model="scripted/small")["session_id"]
    caller.chat("Dois", session_id=session)
    caller.chat("Três", session_id=session, model="scripted/large")
    caller.chat("Quatro", session_id=session)
    assert [request.body["model"][9:] for request in upstream.requests] == ["small", "small", "large", "large"]
    assert caller.session(session)["model"] == "scripted/large"


def test_a_session_remembers_its_system_prompt_until_another_is_given(caller: Caller, upstream: Upstream) -> None:
    session = caller.chat("Um", system_prompt="Seja breve.")["session_id"]
    caller.chat("Dois", session_id=session)
    assert roles(upstream)[0] == ("system", "Seja breve.")
    caller.chat("Três", session_id=session, system_prompt="Seja longo.")
    assert roles(upstream)[0] == ("system", "Seja longo.")
    caller.chat("Quatro", session_id=session)
    assert roles(upstream)[0] == ("system", "Seja longo.")
    assert [role for role, _ in roles(upstream)].count("system") == 1
    assert caller.session(session)["system_prompt"] == "Seja longo."


def test_an_empty_system_prompt_takes_the_session_s_away(caller: Caller, upstream: Upstream) -> None:
    session = caller.chat("Um", system_prompt="Seja breve.")["session_id"]
    caller.chat("Dois", session_id=session, system_prompt="")
    assert [role for role, _ in roles(upstream)] == ["user", "assistant", "user"]
    caller.chat("Três", session_id=session)
    assert "system" not in [role for role, _ in roles(upstream)]


def test_chat_sends_no_system_prompt_of_its_own(caller: Caller, upstream: Upstream) -> None:
    caller.chat("Oi")
    assert roles(upstream) == [("user", "Oi")]


def test_the_bank_s_prompt_goes_with_every_message(caller: Caller, upstream: Upstream) -> None:
    session = good(caller.post("/api/message", message="Oi"))["session_id"]
    good(caller.post("/api/message", message="E o Pix?", session_id=session))
    for request in upstream.requests:
        assert request.messages[0]["role"] == "system"
        assert "BancoBot" in request.messages[0]["content"]


def test_both_prompts_can_be_set(own_service: Service, upstream: Upstream) -> None:
    caller = Caller(own_service)
    good(caller.post("/api/message", message="Oi"))
    assert roles(upstream)[0] == ("system", "Sou o banco.")
    caller.chat("Oi")
    assert roles(upstream)[0] == ("system", "Sou o chat.")
    caller.chat("Oi", system_prompt="Sou outro.")
    assert roles(upstream)[0] == ("system", "Sou outro.")


def test_the_server_s_key_goes_upstream_for_a_caller_without(service: Service, upstream: Upstream) -> None:
    Caller(service, key="").chat("Oi")
    assert upstream.requests[0].headers["authorization"] == "Bearer test-key"


def test_the_caller_s_own_key_goes_upstream_instead_of_the_server_s(caller: Caller, upstream: Upstream) -> None:
    caller.chat("Oi")
    assert upstream.requests[0].headers["authorization"] == f"Bearer {caller.key}"
    assert "test-key" not in str(upstream.requests[0].headers)


def test_nothing_of_the_client_s_request_leaks_upstream(caller: Caller, upstream: Upstream) -> None:
    headers = {"Cookie": "a=segredo", "X-Forwarded-For": "10.1.2.3", "User-Agent": "cliente-secreto"}
    caller.call("POST", "/chat", json={"message": "Oi"}, headers=headers)
    assert not [value for value in ("segredo", "10.1.2.3", "cliente") if value in str(upstream.requests[0].headers)]


# What is stored


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


# Two at once


def two_at_once(caller: Caller, session: str) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda text: caller.chat(text, session_id=session), ["Um", "Dois"]))


def assert_one_after_the_other(caller: Caller, session: str) -> None:
    messages = caller.messages(session)
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    first, second = messages[0]["content"], messages[2]["content"]
    assert {first, second} == {"Um", "Dois"}
    # The echo counts what it was sent: the second was sent the first one's question and reply.
    assert [messages[1]["content"], messages[3]["content"]] == [f"Eco (1): {first}", f"Eco (3): {second}"]


def test_two_messages_at_once_are_answered_one_after_the_other(caller: Caller, upstream: Upstream) -> None:
    sessions = [new_id() for _ in range(20)]
    for session in sessions:
        answers = two_at_once(caller, session)
        assert {answer["session_id"] for answer in answers} == {session}
        assert_one_after_the_other(caller, session)
    assert upstream.count == 40


def test_two_messages_at_once_are_ordered_across_processes(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service(workers=2))
    sessions = [new_id() for _ in range(30)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda session: two_at_once(caller, session), sessions))
    for session in sessions:
        assert_one_after_the_other(caller, session)
    assert upstream.count == 60


def test_many_messages_to_one_session_are_all_answered_in_turn(caller: Caller) -> None:
    session = new_id()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: caller.chat(f"Mensagem {number}", session_id=session), range(12)))
    replies = [message["content"] for message in caller.messages(session) if message["role"] == "assistant"]
    assert [reply.split(":")[0] for reply in replies] == [f"Eco ({2 * place + 1})" for place in range(12)]


def test_a_session_that_stays_busy_is_409_with_retry_after(own_service: Service, upstream: Upstream) -> None:
    caller, gate, session = Caller(own_service), threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.chat, "Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        refused = caller.post("/chat", message="Dois", session_id=session)
        gate.set()
        assert first.result()["response"] == "Enfim"
    body = problem(refused, 409, "session_busy")
    assert int(refused.headers["retry-after"]) == body["retry_after"] >= 1
    assert upstream.count == 1
    assert caller.texts(session) == ["Um", "Enfim"]
    assert caller.chat("Três", session_id=session)["response"] == "Eco (4): Três"


@pytest.mark.parametrize("path", ["/chat", "/api/message"])
def test_who_does_not_want_to_wait_is_told_at_once(caller: Caller, upstream: Upstream, path: str) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.chat, "Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        for _ in range(3):  # the gate is shut: a wait would last until the client gives up
            problem(caller.post(path, message="Dois", session_id=session, on_busy="reject"), 409, "session_busy")
        gate.set()
        first.result()
    assert good(caller.post(path, message="Três", session_id=session, on_busy="reject"))["session_id"] == session


def test_a_dead_turn_keeps_nobody_out_who_does_not_want_to_wait(caller: Caller) -> None:
    session = new_id()
    caller.chat("Um", session_id=session)
    caller.service.sql(
        "UPDATE sessions_api_message SET status = 'pending', completed_at = NULL, runner = 'x:1:1', "
        "heartbeat_at = '2020-01-01 00:00:00' WHERE position = 1 AND session_id = "
        "(SELECT id FROM sessions_api_session WHERE session_id = %s)",
        session,
    )
    assert caller.chat("Dois", session_id=session, on_busy="reject")["response"] == "Eco (3): Dois"


def test_more_turns_than_allowed_are_503_and_leave_no_trace(make_service: MakeService, upstream: Upstream) -> None:
    caller, gate = Caller(make_service(MAX_TURNS_IN_FLIGHT="3")), threading.Event()
    upstream.otherwise = scenarios.gated(gate, scenarios.ok("Enfim"))
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(caller.chat, "Oi") for _ in range(3)]
        upstream.wait_until(lambda: upstream.count == 3)
        refused = caller.post("/chat", message="Oi", session_id="demais")
        gate.set()
        assert {future.result()["response"] for future in asking} == {"Enfim"}
    assert problem(refused, 503, "overloaded")["retry_after"] == int(refused.headers["retry-after"]) >= 1
    problem(caller.get("/sessions/demais"), 404, "session_not_found")
    wait_until(lambda: caller.post("/chat", message="Oi").status_code == 200)


# What fails upstream

FAULTS = [
    (scenarios.status(400), 400, "invalid_request"),
    (scenarios.status(400, {"error": {"code": "context_length_exceeded"}}), 400, "context_length_exceeded"),
    (scenarios.status(401), 401, "provider_auth_failed"),
    (scenarios.status(402), 402, "provider_payment_required"),
    (scenarios.status(403), 403, "permission_denied"),
    (scenarios.status(403, {"error": {"code": 403, "metadata": {"reasons": ["x"]}}}), 403, "content_moderated"),
    (scenarios.status(404), 400, "unsupported_model"),
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
    upstream.script(fault)
    error = problem(caller.post("/chat", message="Esta falha", session_id=session), status, code)
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


def test_an_upstream_that_says_nothing_is_a_time_out(make_service: MakeService, upstream: Upstream) -> None:
    caller = Caller(make_service(TURN_DEADLINE_SECONDS="1"))
    upstream.script(scenarios.hang(after="Até aqui"))
    error = problem(caller.post("/chat", message="Oi", session_id="lenta"), 504, "provider_timeout")
    assert error["may_have_been_billed"] is True
    reply = caller.messages("lenta")[1]
    assert (reply["status"], reply["content"]) == ("failed", "Até aqui")


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
