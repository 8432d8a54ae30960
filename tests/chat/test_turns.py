"""POST /chat and POST /api/message: requests, upstream requests, answers, and the record."""

import re
from datetime import datetime

import pytest

from testing import scenarios
from testing.client import Caller, good, problem
from testing.service import Service
from testing.upstream import Upstream

BOTH = pytest.mark.parametrize("path", ["/chat", "/api/message"])


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def roles(upstream: Upstream) -> list[tuple[str, str]]:
    """The body of the last upstream request."""
    return [(message["role"], message["content"]) for message in upstream.requests[-1].messages]


# Answers


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


# Upstream requests


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


def test_both_prompts_can_be_set(tuned_service: Service, upstream: Upstream) -> None:
    caller = Caller(tuned_service)
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
