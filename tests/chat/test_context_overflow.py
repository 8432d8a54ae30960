"""Requests that fit a model's context: what is sent, and what happens where the provider says that it is too long."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem
from testing.exchange import Exchange
from testing.picky import limited, strict
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

OVERFLOW = {"error": {"code": "context_length_exceeded", "message": "the provider's own words"}}
REFUSED = scenarios.status(400, OVERFLOW)
TEXTS: dict[str, Callable[[int], str]] = {  # about as many bytes each
    "words": lambda number: f"Palavra {number} " * 30,
    "digits": lambda number: f"{number}" * 300,
    "emoji": lambda number: "🙂" * 75 + f"{number}",
}


@pytest.fixture(scope="module")
def local(fronts: Services) -> Iterator[Service]:
    """In front of a server whose list a test decides."""
    with fronts.own(MODELS_CACHE_SECONDS="0", DEFAULT_CONTEXT_LENGTH="8000", MAX_TOKENS_DEFAULT="500") as service:
        yield service


@pytest.fixture
def caller(local: Service, upstream: Upstream) -> Caller:
    """The server lists nothing but names, so a context of 8,000 is assumed."""
    return with_list(local, upstream, {})


def with_list(local: Service, upstream: Upstream, entry: dict[str, Any]) -> Caller:
    upstream.models = scenarios.models({"data": [{"id": "test/model", **entry}]})
    caller = Caller(local)
    good(caller.get("/models"))
    return caller


def converse(caller: Caller, upstream: Upstream, count: int, text: str = "palavra " * 40) -> str:
    session = new_id()
    for number in range(count):
        upstream.reply(f"Resposta {number}")
        caller.chat(f"{number} {text}", session_id=session)
    return session


def numbers(upstream: Upstream, request: int = -1) -> list[int]:
    """The past questions of a request."""
    told = upstream.requests[request].messages
    return [int(message["content"].split()[0]) for message in told[:-1] if message["role"] == "user"]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
def test_what_is_too_long_is_asked_once_more_with_half_of_the_history(
    caller: Caller, upstream: Upstream, stream: bool
) -> None:
    session = converse(caller, upstream, 12)
    upstream.script(REFUSED, strict())
    before = upstream.count
    answer = caller.post("/chat", message="Fim", session_id=session, stream=stream)
    assert answer.status_code == 200
    assert upstream.count == before + 2
    assert numbers(upstream, -2) == list(range(12))
    assert numbers(upstream) == list(range(6, 12))
    assert answer.headers["x-history-omitted"] == "12"
    assert upstream.requests[-1].body["max_tokens"] == 500
    assert caller.messages(session)[-1]["status"] == "completed"


def test_the_next_turns_of_that_session_pay_no_second_call(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 12)
    other = converse(caller, upstream, 12)
    upstream.script(REFUSED)
    caller.chat("12 Fim", session_id=session)
    before = upstream.count
    for number in range(13, 16):
        caller.chat(f"{number} Fim", session_id=session)
        assert 6 <= len(numbers(upstream)) <= 9
    caller.chat("12 Fim", session_id=other)
    assert numbers(upstream) == list(range(12)), "another session's history is its own"
    assert upstream.count == before + 4


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
def test_a_second_refusal_is_the_caller_s_to_hear_and_later_turns_send_less(
    caller: Caller, upstream: Upstream, stream: bool
) -> None:
    session = converse(caller, upstream, 12)
    upstream.otherwise = REFUSED
    sizes = []
    for _ in range(6):
        before = upstream.count
        problem(caller.post("/chat", message="Fim", session_id=session, stream=stream), 400, "context_length_exceeded")
        sizes.append([len(request.messages) for request in upstream.requests[before:]])
    assert sizes[0] == [25, 13]
    assert all(len(calls) <= 2 for calls in sizes)
    assert sizes[-1] == [1], "no history is left, so the question is asked once"
    upstream.otherwise = strict()
    caller.chat("Fim", session_id=session)
    assert caller.messages(session)[-3]["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (scenarios.error_in_200("context_length_exceeded"), 400),
        (scenarios.error_mid_stream("context_length_exceeded", text=""), 400),
        (scenarios.error_mid_stream("context_length_exceeded", text="Até aqui"), 400),
    ],
)
def test_what_may_have_been_billed_is_not_asked_again_but_learned_from(
    caller: Caller, upstream: Upstream, fault: scenarios.Scenario, status: int
) -> None:
    session = converse(caller, upstream, 12)
    before = upstream.count
    upstream.script(fault)
    problem(caller.post("/chat", message="12 Fim", session_id=session), status, "context_length_exceeded")
    assert upstream.count == before + 1
    caller.chat("13 Fim", session_id=session)
    assert len(numbers(upstream)) <= 7


def test_a_question_alone_is_asked_once(caller: Caller, upstream: Upstream) -> None:
    upstream.script(REFUSED)
    problem(caller.post("/chat", message="Fim", session_id=new_id()), 400, "context_length_exceeded")
    assert upstream.count == 1


def test_another_refusal_is_not_asked_again(caller: Caller, upstream: Upstream) -> None:
    session = converse(caller, upstream, 3)
    upstream.script(scenarios.status(400), scenarios.status(400))
    problem(caller.post("/chat", message="Fim", session_id=session), 400, "invalid_request")
    assert upstream.count == 4


@pytest.mark.parametrize("entry", [{}, {"max_model_len": 4000}], ids=["assumed", "listed"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_long_conversation_goes_on_whatever_a_token_is(
    local: Service, upstream: Upstream, text: str, entry: dict[str, Any]
) -> None:
    """A token for each byte, in a context of 4,000: the estimate is off by three, the assumed context by two more."""
    caller = with_list(local, upstream, entry)
    upstream.otherwise = limited(4000, strict(), count=lambda content: len(content.encode()))
    session = new_id()
    calls = []
    for number in range(24):
        before = upstream.count
        caller.chat(TEXTS[text](number), session_id=session)
        calls.append(upstream.count - before)
    assert set(calls) <= {1, 2}
    assert sum(calls) <= 24 + 3
    assert len(upstream.requests[-1].messages) >= 3, "some of the history still goes"


def test_the_reply_may_have_what_the_context_leaves(local: Service, upstream: Upstream) -> None:
    caller = with_list(local, upstream, {"max_model_len": 4096})
    upstream.otherwise = limited(4096, strict(), count=lambda content: len(content) // 4)
    session = converse(caller, upstream, 4)
    caller.chat("Oi", session_id=session, max_tokens=4096)
    assert 2048 <= upstream.requests[-1].body["max_tokens"] < 4096
    assert len(numbers(upstream)) == 4, "a large max_tokens costs no history that fits into the other half"
    caller.chat("Oi", session_id=session, max_tokens=300)
    assert upstream.requests[-1].body["max_tokens"] == 300
    refused = problem(caller.post("/chat", message="Oi", max_tokens=4097), 400, "invalid_request")
    assert "4096" in str(refused["errors"]["max_tokens"])


QUESTIONS = [(1000, 500), (6000, 500), (10_500, 500), (12_000, 500), (15_000, 170), (40_000, 16)]


@pytest.mark.parametrize(("characters", "reply"), QUESTIONS)
def test_a_long_question_leaves_less_for_the_reply(
    local: Service, upstream: Upstream, characters: int, reply: int
) -> None:
    """It is asked whatever its length: the count is an estimate."""
    caller = with_list(local, upstream, {"max_model_len": 4096})
    caller.chat("x" * characters, session_id=new_id())
    assert upstream.requests[-1].body["max_tokens"] == pytest.approx(reply, abs=5)


def test_an_assumed_context_does_not_cut_a_reply_short(caller: Caller, upstream: Upstream) -> None:
    caller.chat("x" * 90_000, session_id=new_id())
    assert upstream.requests[-1].body["max_tokens"] == 500


TOO_LARGE = [scenarios.status(413), scenarios.html(413)]


@pytest.mark.parametrize("refusal", TOO_LARGE, ids=["provider", "proxy"])
def test_a_request_that_is_too_large_is_smaller_the_next_time(
    caller: Caller, upstream: Upstream, refusal: scenarios.Scenario
) -> None:
    """A proxy's limit of bytes; nobody says that the context is full."""
    session = converse(caller, upstream, 12)
    upstream.otherwise = limited(2500, strict(), refusal=refusal)
    before = upstream.count
    statuses = [caller.post("/chat", message="12 Fim", session_id=session).status_code for _ in range(4)]
    assert statuses[0] in (400, 502)
    assert statuses[-1] == 200
    assert upstream.count == before + 4


@pytest.mark.parametrize("refusal", [scenarios.status(400), scenarios.html(403)], ids=["provider", "firewall"])
def test_what_is_refused_later_in_a_history_is_left_behind(
    caller: Caller, upstream: Upstream, refusal: scenarios.Scenario
) -> None:
    """A text that was accepted as a question, and is refused as history for a reason that nobody knows."""
    session = converse(caller, upstream, 5)
    upstream.otherwise = refuses("Resposta 4", refusal)
    statuses = [caller.post("/chat", message=f"{n} Fim", session_id=session).status_code for n in range(5, 14)]
    refused = statuses.index(200)
    assert 2 <= refused <= 6
    assert set(statuses[refused:]) == {200}


def refuses(text: str, refusal: scenarios.Scenario) -> scenarios.Scenario:
    async def play(exchange: Exchange) -> None:
        found = any(text in message["content"] for message in exchange.request.messages)
        await (refusal if found else strict())(exchange)

    return play
