"""What was left out because the model refused it: answers say so, in every form, and so does the record."""

import secrets
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.environment import Environment
from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.exchange import Exchange
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

FORMS = pytest.mark.parametrize("stream", [False, True], ids=["json", "events"])
GOOD = pytest.mark.parametrize("answer", [scenarios.ok("Pronto"), scenarios.plain_json("Pronto")], ids=["sse", "whole"])


@pytest.fixture
def caller(front: Service) -> Caller:
    return Caller(front)


def refusing(*names: str, then: scenarios.Scenario) -> scenarios.Scenario:
    """A model that takes none of these parameters, and names one of them at a time."""

    async def play(exchange: Exchange) -> None:
        found = next((name for name in names if name in exchange.request.body), None)
        error = {"error": {"message": f"Unsupported parameter: '{found}'", "param": found}}
        await (scenarios.status(400, error) if found else then)(exchange)

    return play


def ask(caller: Caller, path: str, stream: bool, **body: Any) -> dict[str, Any]:
    """The answer, or the data of `done`; of a model that nothing was learned of."""
    return dict(caller.stream(path, **body)[-1].data) if stream else good(caller.post(path, **body))


def model() -> str:
    return f"m{secrets.token_hex(6)}"


@FORMS
@GOOD
def test_answer_and_record_name_what_was_left_out(
    caller: Caller, upstream: Upstream, answer: scenarios.Scenario, stream: bool
) -> None:
    upstream.otherwise = refusing("max_tokens", "max_completion_tokens", "temperature", then=answer)
    told = ask(caller, "/chat", stream, message="Oi", model=model(), temperature=0.3)
    assert (told["response"], told["parameters_left_out"]) == ("Pronto", ["max_tokens", "temperature"])
    assert upstream.count == 4
    reply = caller.messages(told["session_id"])[1]
    assert (reply["status"], reply["metadata"]) == ("completed", {"parameters_left_out": told["parameters_left_out"]})
    assert good(caller.get(f"/turns/{told['turn_id']}"))["answer"] == told
    again = ask(caller, "/chat", stream, message="E aí?", session_id=told["session_id"], temperature=0.3)
    assert (again["parameters_left_out"], upstream.count) == (told["parameters_left_out"], 5)


@FORMS
def test_the_banks_assistant_names_it_too(caller: Caller, upstream: Upstream, stream: bool) -> None:
    refused = scenarios.status(400, {"error": {"message": "System role not supported"}})
    answer = scenarios.ok("Pronto")

    async def play(exchange: Exchange) -> None:
        await (refused if exchange.request.messages[0]["role"] == "system" else answer)(exchange)

    session = caller.chat("Antes", model=model())["session_id"]  # the server's model is that of other tests too
    upstream.otherwise = play
    told = ask(caller, "/api/message", stream, message="Oi", session_id=session)
    assert told["parameters_left_out"] == ["system role"]
    question = upstream.requests[-1].messages[0]["content"]
    assert question.startswith("Você é o BancoBot")
    assert question.endswith("\n\nAntes")


def test_a_rename_is_nothing_to_be_told(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = refusing("max_tokens", then=scenarios.ok("Pronto"))
    assert "parameters_left_out" not in caller.chat("Oi", model=model(), max_tokens=50)
    assert upstream.requests[-1].body["max_completion_tokens"] == 50


def test_the_same_key_gets_the_same_bytes(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = refusing("stream_options", "temperature", then=scenarios.ok("Pronto"))
    body = {"message": "Oi", "model": model(), "temperature": 0.3}
    keyed = {"Idempotency-Key": secrets.token_hex(8)}
    first, second = (caller.call("POST", "/chat", json=body, headers=keyed) for _ in range(2))
    assert good(first)["parameters_left_out"] == ["stream_options", "temperature"]
    assert second.headers["idempotent-replayed"] == "true"
    assert (second.content, upstream.count) == (first.content, 3)


@FORMS
def test_a_failed_turn_was_not_billed_and_asked_four_times(caller: Caller, upstream: Upstream, stream: bool) -> None:
    refused = ("max_tokens", "max_completion_tokens", "temperature", "stream_options", "plugins")
    upstream.otherwise = refusing(*refused, then=scenarios.ok("Pronto"))
    body = {"message": "Oi", "model": model(), "temperature": 0.3}
    response = caller.post("/chat", **body, stream=stream)
    error = problem(response, 400, "invalid_request")
    assert (error["may_have_been_billed"], upstream.count) == (False, 4)
    assert "stream_options" in caller.service.log()
    assert "Unsupported parameter" not in caller.service.log()


def test_settings_say_it_beforehand(services: Services, upstream: Upstream) -> None:
    upstream.otherwise = scenarios.ok("Pronto")
    service = services.shared(
        MAX_TOKENS_PARAMETER="max_completion_tokens",
        LEAVE_OUT_PARAMETERS="temperature, stream_options",
        SYSTEM_ROLE="developer",
        BANCOBOT_SYSTEM_PROMPT="none",
    )
    caller = Caller(service)
    told = caller.chat("Oi", temperature=0.3, max_tokens=50, system_prompt="Seja breve.")
    assert told["parameters_left_out"] == ["temperature", "stream_options"]
    body = upstream.requests[-1].body
    assert not {"temperature", "stream_options", "max_tokens"} & body.keys()
    assert (body["max_completion_tokens"], body["messages"][0]["role"]) == (50, "developer")
    good(caller.post("/api/message", message="Oi", session_id=new_id()))
    assert upstream.requests[-1].messages == [{"role": "user", "content": "Oi"}]


@pytest.mark.parametrize("value", ["model", "messages", "max_tokens,foo", "max_completion_tokens", "*"])
def test_what_can_not_be_left_out_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    monkeypatch.setenv("LEAVE_OUT_PARAMETERS", value)
    with pytest.raises(ImproperlyConfigured, match="LEAVE_OUT_PARAMETERS must be a list out of max_tokens, stream"):
        Environment(tmp_path / "none").choices("LEAVE_OUT_PARAMETERS", ("max_tokens", "stream"))


@pytest.mark.parametrize("value, prompt", [("none", ""), ("NONE", ""), ("", "Olá"), ("Nonesense", "Nonesense")])
def test_none_is_no_system_prompt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, prompt: str) -> None:
    monkeypatch.setenv("BANCOBOT_SYSTEM_PROMPT", value)
    assert Environment(tmp_path / "none").text_or_none("BANCOBOT_SYSTEM_PROMPT", "Olá") == prompt
