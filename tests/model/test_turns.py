"""Turns with a real model: what goes to it, what it counts, and what is recorded of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.client import Caller, good, new_id, problem
from testing.llama.server import CONTEXT, KEY, NAME, Llama

QUESTIONS = [
    "My name is Ana. What is yours?",
    "What is a bank?",
    "Name one fruit.",
    "And another one?",
    "Qual é a capital do Brasil?",
    "E de Portugal?",
    "Count to three.",
    "1234567890",
    "🙂",
    "What is my name?",
]


def sent(caller: Caller, session: str) -> list[dict[str, str]]:
    """The messages of a conversation but the last reply, as the model should have got them."""
    stored = [{"role": message["role"], "content": message["content"]} for message in caller.messages(session)]
    prompt = caller.session(session)["system_prompt"]
    return [*([{"role": "system", "content": prompt}] if prompt else []), *stored[:-1]]


@pytest.mark.parametrize("system_prompt", ["", "Answer in one short sentence."])
def test_ten_turns_go_to_the_model_with_all_that_was_said_before(
    caller: Caller, llama: Llama, system_prompt: str
) -> None:
    """The model's own count shows it: one word less, and it would have counted less."""
    session = new_id()
    for number, question in enumerate(QUESTIONS):
        answer = caller.chat(
            question, session_id=session, system_prompt=system_prompt, temperature=0, max_tokens=24, stream=False
        )
        assert answer["model_used"] == NAME
        assert answer["usage"]["prompt_tokens"] == llama.count(sent(caller, session))
        assert 0 < answer["usage"]["completion_tokens"] <= 24
        assert "estimated" not in answer["usage"]
        assert answer["finish_reason"] == "stop" or answer["usage"]["completion_tokens"] == 24
        assert len(caller.messages(session)) == 2 * (number + 1)


def test_what_it_counted_is_on_record(caller: Caller, llama: Llama) -> None:
    session = new_id()
    answers = [caller.chat(question, session_id=session, max_tokens=8) for question in QUESTIONS[:2]]
    replies = [message for message in caller.messages(session) if message["role"] == "assistant"]
    assert [reply["usage"] for reply in replies] == [answer["usage"] for answer in answers]
    assert {(reply["status"], reply["model"], reply["error"]) for reply in replies} == {("completed", NAME, None)}
    assert all(0 < reply["first_token_ms"] <= reply["latency_ms"] for reply in replies)
    totals = caller.session(session)["usage"]
    assert totals["total_tokens"] == sum(answer["usage"]["total_tokens"] for answer in answers)
    turn = answers[0]["turn_id"]
    rows = caller.service.sql("SELECT generation_id FROM sessions_api_message WHERE turn_id = %s", turn)
    assert sum(name.startswith("chatcmpl-") for (name,) in rows) == 1


def test_max_tokens_and_temperature_reach_it(caller: Caller, llama: Llama) -> None:
    answer = caller.chat("Tell me a story about a bank.", temperature=0, max_tokens=7)
    assert (answer["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 7)
    assert llama.slot()["params"]["temperature"] == 0


def test_its_name_and_its_context_are_in_the_list_of_models(caller: Caller) -> None:
    (model,) = good(caller.get("/models"))["data"]
    assert (model["id"], model["meta"]["n_ctx"]) == (NAME, CONTEXT)


def test_ten_at_once_are_all_answered(caller: Caller) -> None:
    sessions = [new_id() for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda session: caller.chat("Hello!", session_id=session, max_tokens=8), sessions))
    assert all(answer["response"] for answer in answers)
    assert [caller.texts(session) for session in sessions] == [["Hello!", answer["response"]] for answer in answers]


def test_a_wrong_key_of_the_callers_own_is_refused_and_harms_nobody(caller: Caller) -> None:
    wrong = Caller(caller.service)
    for _ in range(6):
        error = problem(wrong.post("/chat", message="Hello!", max_tokens=4), 401, "provider_auth_failed")
        assert "Invalid API Key" not in str(error)
    assert caller.chat("Hello!", max_tokens=4)["response"]
    assert Caller(caller.service, key=KEY).chat("Hello!", max_tokens=4)["response"]
