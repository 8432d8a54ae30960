"""The part of a conversation that goes upstream: the system prompt, the newest whole turns, and the question."""

from collections.abc import Iterator

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

SMALL = {"model": "scripted/small"}  # 8,192 tokens of context in the provider's list
LONG = "palavra " * 600  # about 1,600 tokens, counted on the safe side


@pytest.fixture
def caller(service: Service) -> Caller:
    caller = Caller(service)
    good(caller.get("/models"))
    return caller


def sent(upstream: Upstream) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in upstream.requests[-1].messages]


def converse(caller: Caller, upstream: Upstream, count: int, text: str = LONG) -> str:
    session = new_id()
    for number in range(count):
        upstream.reply(f"Resposta {number}")
        caller.chat(f"Pergunta {number} {text}", session_id=session, **SMALL)
    return session


def test_a_conversation_that_fits_goes_whole(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 3)
    response = caller.post("/chat", message="E agora?", session_id=session)
    assert len(sent(upstream)) == 7
    assert "x-history-omitted" not in response.headers


def test_the_newest_whole_turns_go_and_the_answer_says_what_was_left_out(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 8)
    response = caller.post("/chat", message="E agora?", session_id=session)
    messages = sent(upstream)
    omitted = int(response.headers["x-history-omitted"])
    assert omitted % 2 == 0
    assert omitted + len(messages) == 8 * 2 + 1
    assert 3 < len(messages) < 17
    first = omitted // 2
    assert messages[0] == ("user", f"Pergunta {first} {LONG}")
    assert messages[1] == ("assistant", f"Resposta {first}")
    assert messages[-2:] == [("assistant", "Resposta 7"), ("user", "E agora?")]


def test_what_is_sent_fits_the_context(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 8)
    good(caller.post("/chat", message="E agora?", session_id=session, max_tokens=1024))
    characters = sum(len(text) for _, text in sent(upstream))
    assert characters / 4 + 1024 <= 8192


def test_a_stream_says_what_was_left_out_too(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 8)
    response = caller.post("/chat", message="E agora?", session_id=session, stream=True)
    assert int(response.headers["x-history-omitted"]) > 0


def test_a_larger_model_takes_the_whole_history(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 8)
    response = caller.post("/chat", message="E agora?", session_id=session, model="scripted/large")
    assert len(sent(upstream)) == 17
    assert "x-history-omitted" not in response.headers


def test_the_system_prompt_always_goes(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 8)
    caller.chat("E agora?", session_id=session, system_prompt="Seja breve.")
    messages = sent(upstream)
    assert messages[0] == ("system", "Seja breve.")
    assert messages[1][0] == "user"
    assert len(messages) < 18


def test_a_question_larger_than_the_context_still_goes(caller: Caller, upstream: Upstream) -> None:
    """The provider decides whether it fits: the count here is only an estimate."""
    session = converse(caller, upstream, 1)
    huge = "x" * 60_000
    caller.chat(huge, session_id=session)
    assert sent(upstream) == [("user", huge)]


def test_a_partial_reply_stays_in_the_history(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    upstream.script(scenarios.error_mid_stream(502, "Até aqui"))
    assert caller.post("/chat", message="Um", session_id=session).status_code == 502
    caller.chat("Dois", session_id=session)
    assert sent(upstream) == [("user", "Um"), ("assistant", "Até aqui"), ("user", "Dois")]


def test_failed_turns_are_left_out_wherever_they_stand(caller: Caller, upstream: Upstream) -> None:
    session = new_id()
    upstream.script(scenarios.status(500), scenarios.ok("Boa"), scenarios.status(402), scenarios.status(500))
    statuses = [caller.post("/chat", message=f"Pergunta {n}", session_id=session).status_code for n in range(4)]
    assert statuses == [502, 200, 402, 502]
    response = caller.post("/chat", message="Fim", session_id=session)
    assert sent(upstream) == [("user", "Pergunta 1"), ("assistant", "Boa"), ("user", "Fim")]
    assert "x-history-omitted" not in response.headers


@pytest.fixture(scope="module")
def narrow(services: Services) -> Iterator[Service]:
    settings = {"HISTORY_MAX_MESSAGES": "5", "DEFAULT_CONTEXT_LENGTH": "1300", "MAX_TOKENS_DEFAULT": "100"}
    with services.own(**settings) as service:
        yield service


def test_no_more_messages_than_the_setting_allows(narrow: Service, upstream: Upstream) -> None:
    """An odd number of messages would begin in the middle of a turn."""
    caller, session = Caller(narrow), new_id()
    for number in range(4):
        caller.chat(f"Pergunta {number}", session_id=session, system_prompt="Seja breve.")
    response = caller.post("/chat", message="Fim", session_id=session)
    texts = [text for role, text in sent(upstream) if role == "user"]
    assert texts == ["Pergunta 2", "Pergunta 3", "Fim"]
    assert [role for role, _ in sent(upstream)] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert response.headers["x-history-omitted"] == "4"


def test_an_unknown_model_has_the_context_of_the_setting(narrow: Service, upstream: Upstream) -> None:
    caller, session = Caller(narrow), new_id()
    for number in range(2):
        caller.chat(f"Pergunta {number} {'palavra ' * 150}", session_id=session)
    response = caller.post("/chat", message="Fim", session_id=session)
    assert next(text for role, text in sent(upstream) if role == "user").startswith("Pergunta 1")
    assert response.headers["x-history-omitted"] == "2"
