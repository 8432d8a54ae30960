"""Conversations that outgrow a real model's context: of 256 tokens here, which it counts otherwise than we estimate."""

import pytest

from testing.client import Caller, new_id, problem
from testing.llama.server import Llama

TURNS = 10


@pytest.mark.parametrize(
    "message",
    [
        "Minha conta é 31415-9 e o código é 27182.",
        "31415926535897932384",
        "🙂🙃🏦💳🪙🧾",
    ],
    ids=["mixed", "digits", "emoji"],
)
def test_a_conversation_goes_on_however_long_it_gets(narrow_caller: Caller, narrow: Llama, message: str) -> None:
    session = new_id()
    for number in range(TURNS):
        question = f"{number} {message}"
        answer = narrow_caller.chat(question, session_id=session, temperature=0, max_tokens=16)
        assert (answer["finish_reason"], answer["usage"]["completion_tokens"] > 0) == ("length", True)
        assert "estimated" not in answer["usage"]
        least = narrow.count([{"role": "user", "content": question}])
        assert least <= answer["usage"]["prompt_tokens"] <= 255
    assert len(narrow_caller.messages(session)) == 2 * TURNS
    assert answer["usage"]["prompt_tokens"] > least, "nothing of the history went with the last question"


def test_a_message_that_does_not_fit_is_refused_and_the_conversation_goes_on(narrow_caller: Caller) -> None:
    session = narrow_caller.chat("Hello!", max_tokens=4)["session_id"]
    error = problem(
        narrow_caller.post("/chat", message="31415 " * 60, session_id=session, max_tokens=4),
        400,
        "context_length_exceeded",
    )
    assert not error["may_have_been_billed"]
    failed = narrow_caller.messages(session)[-1]
    assert (failed["status"], failed["content"], failed["error"]["code"]) == ("failed", "", "context_length_exceeded")
    assert narrow_caller.chat("Hello again!", session_id=session, max_tokens=4)["finish_reason"] == "length"


def test_a_model_that_the_list_does_not_name_is_asked_all_the_same(narrow_caller: Caller) -> None:
    """llama.cpp answers to any name, and its context is then taken to be the default."""
    session = new_id()
    for number in range(6):
        answer = narrow_caller.chat(
            f"{number} 2718281828459045 3141592653589793", session_id=session, model="another/name", max_tokens=8
        )
        assert answer["finish_reason"] == "length"
