"""Chat templates refuse messages before the model has anything to do; some servers call that a failure of their own."""

import asyncio
from typing import Any

import pytest

from chat.providers import ChatMessage, Options, ProviderError
from chat.providers.circuit import THRESHOLD
from testing import scenarios
from testing.client import Caller, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.replies import ask, collect, provider_for

QUESTION = [ChatMessage("user", "Oi")]
ROLES = "Conversation roles must alternate user/assistant/user/assistant/..."
TRACE = (
    "\n------------\nWhile executing CallExpression at line 19, column 27 in source:\n...% 2 == 0) -%}\u21b5        "
    '{{ raise_exception("Conversation roles must alternate user...\n          ^\nError: Jinja Exception: '
)
REFUSALS: dict[str, tuple[int, Any]] = {
    "llama.cpp": (500, {"error": {"code": 500, "message": TRACE + ROLES, "type": "server_error"}}),
    "llama.cpp, the role": (
        500,
        {"error": {"code": 500, "message": "Jinja Exception: System role not supported", "type": "server_error"}},
    ),
    "llama.cpp, minja": (
        500,
        {"error": {"code": 500, "message": f'{ROLES} at row 19, column 27:\n {{{{ raise_exception("{ROLES}") }}}}'}},
    ),
    "Devstral": (
        500,
        {
            "error": {
                "code": 500,
                "message": "Error: Jinja Exception: After the optional system message, conversation roles must "
                "alternate user and assistant roles except for tool calls and results.",
            }
        },
    ),
    "Ollama": (
        500,
        {"error": {"message": "chat template prompt error: System role not supported", "type": "api_error"}},
    ),
    "SGLang": (500, "jinja2.exceptions.TemplateError: System role not supported"),
    "TGI": (424, {"error": f"Template error: syntax error: {ROLES} (in <string>:1)", "error_type": "template_error"}),
    "LM Studio": (400, {"error": f'Error rendering prompt with jinja template: "Error: {ROLES}".'}),
}


@pytest.fixture
def caller(front: Service) -> Caller:
    return Caller(front)


def answer_of(status: int, body: Any) -> scenarios.Scenario:
    return scenarios.status(status, body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "events"])
@pytest.mark.parametrize(("status", "body"), REFUSALS.values(), ids=REFUSALS)
def test_the_system_prompt_goes_into_the_question(
    caller: Caller, upstream: Upstream, status: int, body: Any, stream: bool
) -> None:
    upstream.script(answer_of(status, body))
    turn: dict[str, Any] = {"message": "Oi", "system_prompt": "Seja breve.", "model": new_id("m")}
    answer = caller.stream("/chat", **turn)[-1].data if stream else caller.chat(**turn)
    assert (answer["response"], answer["parameters_left_out"]) == ("Eco (1): Seja breve.\n\nOi", ["system role"])
    assert upstream.count == 2


OTHERS = {
    "no template": (500, {"error": {"message": "System role not supported", "type": "server_error"}}),
    "nothing named": (500, {"error": {"message": "Jinja Exception: 'dict object' has no attribute 'x'"}}),
    "a parameter": (500, {"error": {"message": "Jinja Exception. Unsupported parameter: 'temperature'"}}),
    "another status": (502, {"error": {"message": f"Jinja Exception: {ROLES}"}}),
}


@pytest.mark.parametrize(("status", "body"), OTHERS.values(), ids=OTHERS)
def test_any_other_failure_may_have_been_billed(upstream: Upstream, status: int, body: Any) -> None:
    upstream.script(answer_of(status, body))
    failure = ask(provider_for(upstream), temperature=0.2).failure
    assert (failure.code, failure.may_have_been_billed, upstream.count) == ("provider_error", True, 1)


def test_messages_that_a_template_refuses_open_no_circuit(upstream: Upstream) -> None:
    async def run() -> list[ProviderError]:
        provider = provider_for(upstream)
        try:  # there is no system prompt that could be moved
            return [(await collect(provider, QUESTION, Options("m"))).failure for _ in range(THRESHOLD + 1)]
        finally:
            await provider.aclose()

    upstream.otherwise = answer_of(*REFUSALS["llama.cpp"])
    assert {(failure.code, failure.may_have_been_billed) for failure in asyncio.run(run())} == {
        ("invalid_request", False)
    }
    assert upstream.count == THRESHOLD + 1
