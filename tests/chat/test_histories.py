"""No history makes a session unusable by what is in it: the promise is 0 sessions that answer 400 for ever."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, good, new_id
from testing.exchange import event
from testing.picky import strict
from testing.scenarios import Scenario
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

SECRET = "proibido"  # what the provider's filter finds


@pytest.fixture
def caller(front: Service) -> Caller:
    return Caller(front)


def sent(upstream: Upstream) -> list[str]:
    return [message["content"] for message in upstream.requests[-1].messages]


def ends(text: str, reason: str, native: bool = False) -> Scenario:
    """A reply that ends for this reason; `native`: with nothing but a null in the place of text."""
    choice = {"index": 0, "delta": {"content": None if native else text}, "finish_reason": reason}
    return scenarios.raw(event({"choices": [choice]}), scenarios.DONE, pause=0)


def calls_a_tool() -> Scenario:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "saldo", "arguments": "{}"}}
    first = {"index": 0, "delta": {"content": None, "tool_calls": [call]}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    return scenarios.raw(event({"choices": [first]}), event({"choices": [last]}), scenarios.DONE, pause=0)


BAD = {
    "line breaks": scenarios.ok("\n\n"),
    "a blank": scenarios.ok(" "),
    "a space without width": scenarios.ok("\u200b"),
    "invisible characters": scenarios.ok("\ufeff\xa0\u2060\u3164\n"),
    "thoughts alone": scenarios.ok("<think>\nHm, hm.\n</think>\n\n"),
    "thoughts that were cut": scenarios.ok("<think>\nHm, hm", finish="length"),
    "tool calls alone": calls_a_tool(),
    "tool calls and a line break": ends("\n", "tool_calls"),
    "filtered": ends("Até aqui", "content_filter"),
    "filtered without text": ends("", "content_filter"),
    "filtered with null": ends("", "content_filter", native=True),
    "filtered by Anthropic": ends("Até aqui", "refusal"),
    "filtered by Gemini": ends("Até aqui", "SAFETY"),
    "moderated": scenarios.status(403, {"error": {"code": 403, "metadata": {"reasons": ["x"]}}}),
    "moderated in mid-stream": scenarios.error_mid_stream(403, metadata={"reasons": ["x"]}),
    "nothing but an end": scenarios.null_content(),
    "all of max_tokens spent without text": ends("", "length", native=True),
    "an end too early": scenarios.truncated(""),
    "an error": scenarios.status(500),
    "an error in the stream, after a line break": scenarios.error_mid_stream(502, "\n\n"),
    "JSON with a blank text": scenarios.plain_json("\n"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("kind", BAD)
def test_no_reply_makes_its_session_unusable(caller: Caller, upstream: Upstream, kind: str, stream: bool) -> None:
    upstream.otherwise = strict(forbidden=SECRET)
    session = caller.chat("Antes")["session_id"]
    upstream.script(BAD[kind])
    caller.post("/chat", message=f"Algo {SECRET}", session_id=session, stream=stream)
    for number in range(2):
        answer = caller.post("/chat", message=f"Depois {number}", session_id=session, stream=stream)
        assert answer.status_code == 200, answer.text
        assert '"code"' not in answer.text
        assert "x-history-omitted" not in answer.headers
    assert sent(upstream) == ["Antes", "Eco (1): Antes", "Depois 0", "Eco (3): Depois 0", "Depois 1"]
    assert caller.texts(session)[2] == f"Algo {SECRET}"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
def test_what_a_short_history_is_refused_for_is_soon_left_out(caller: Caller, upstream: Upstream, stream: bool) -> None:
    """Two refusals say that it is the history; halves of the reply's room would not help."""
    upstream.otherwise, session = strict(forbidden=SECRET), new_id()
    upstream.reply(f"Algo {SECRET}")
    caller.chat("Antes", session_id=session)
    answers = [caller.post("/chat", message=f"{number}", session_id=session, stream=stream) for number in range(5)]
    assert [answer.status_code for answer in answers] == [403, 403, 200, 200, 200]
    assert sent(upstream) == ["2", "Eco (1): 2", "3", "Eco (3): 3", "4"]
    last = caller.messages(session)[-1]["turn_id"]
    for _ in range(2):
        assert caller.post("/chat", message="5", session_id=session, after_turn=last).status_code == 200


def test_a_partial_reply_of_another_kind_stays(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = strict()
    replies = [
        ends("Até aqui", "length"),
        scenarios.error_mid_stream(502, "Até ali"),
        ends("<think>a</think>Sim", "stop"),
    ]
    upstream.script(*replies)
    session = new_id()
    for number in range(3):
        caller.post("/chat", message=f"{number}", session_id=session)
    caller.chat("Fim", session_id=session)
    assert sent(upstream) == ["0", "Até aqui", "1", "Até ali", "2", "<think>a</think>Sim", "Fim"]


def test_a_blank_system_prompt_is_not_sent(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = strict()
    session = caller.chat("Oi", system_prompt=" \n\u200b")["session_id"]
    caller.chat("Oi?", session_id=session)
    assert sent(upstream) == ["Oi", "Eco (1): Oi", "Oi?"]


# What is stored already: conversations of another origin

GOOD = [("user", "Oi"), ("assistant", "Olá")]
STORED: dict[str, tuple[list[Any], list[str]]] = {
    "as it should be": (GOOD, ["Oi", "Olá"]),
    "empty": ([], []),
    "a question without a reply": ([*GOOD, ("user", "E?")], ["Oi", "Olá"]),
    "a question without a reply, then one with a reply": ([("user", "E?"), *GOOD], ["E?\n\nOi", "Olá"]),
    "two replies": ([*GOOD, ("assistant", "Mais")], ["Oi", "Olá\n\nMais"]),
    "a greeting first": ([("assistant", "Bem-vindo"), *GOOD], ["Oi", "Olá"]),
    "a greeting alone": ([("assistant", "Bem-vindo")], []),
    "system first": ([("system", "Seja breve"), *GOOD], ["Oi", "Olá"]),
    "system in the middle": (
        [*GOOD, ("system", "Seja breve"), ("user", "1"), ("assistant", "2")],
        ["Oi", "Olá", "1", "2"],
    ),
    "a tool's output": (
        [("user", "Saldo?"), ("assistant", "", "tool_calls"), ("tool", "10"), ("assistant", "São 10")],
        ["Saldo?", "São 10"],
    ),
    "a tool's output without a reply": ([*GOOD, ("user", "Saldo?"), ("assistant", ""), ("tool", "10")], ["Oi", "Olá"]),
    "an empty question": ([("user", ""), ("assistant", "Como?"), *GOOD], ["Oi", "Olá"]),
    "a question that nobody sees": ([("user", "\u200b\n"), ("assistant", "Como?"), *GOOD], ["Oi", "Olá"]),
    "a blank reply": ([("user", "E?"), ("assistant", "\n\n"), *GOOD], ["Oi", "Olá"]),
    "a filtered reply": ([("user", "E?"), ("assistant", "Sim", "content-filter"), *GOOD], ["Oi", "Olá"]),
    "nothing but blank replies": ([("user", "E?"), ("assistant", " ")] * 20, []),
    "a hundred replies in one turn": (
        [("user", "Oi"), *(("assistant", f"{n}") for n in range(60))],
        ["Oi", "\n\n".join(f"{n}" for n in range(60))],
    ),
    "a thousand messages in one turn": (GOOD * 500, ["Oi", "Olá"] * 50),
}  # fmt: skip
THEN = "2026-03-01T12:00:00+00:00"


@pytest.fixture(scope="module")
def imported(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Each conversation twice: as one turn, and with a turn for each message."""
    file = tmp_path_factory.mktemp("import") / "conversas.jsonl"
    file.write_text("".join(a_line(kind, count) + "\n" for kind in STORED for count in (1, 2000)))
    with services.own() as service:
        ran = service.manage("import_sessions", str(file))
        assert ran.returncode == 0, ran.stderr
        yield service


def session_of(kind: str, turns: int) -> str:
    return f"s{list(STORED).index(kind)}.{turns}"


def a_line(kind: str, turns: int) -> str:
    name = session_of(kind, turns)
    head = {"version": 1, "session_id": name, "owner": "open", "created_at": THEN, "last_activity_at": THEN}
    messages = [
        {
            "position": position,
            "turn_id": f"{name.replace('.', '_')}_{position % turns}",
            "role": role,
            "content": content,
            "finish_reason": "".join(more),
            "status": "completed",
            "created_at": THEN,
        }
        for position, (role, content, *more) in enumerate(STORED[kind][0])
    ]
    return json.dumps({**head, "messages": messages})


@pytest.mark.parametrize("turns", [1, 2000], ids=["one turn", "turns of one message"])
@pytest.mark.parametrize("kind", STORED)
def test_a_conversation_of_another_origin_goes_on(imported: Service, upstream: Upstream, kind: str, turns: int) -> None:
    upstream.otherwise = strict()
    caller, session = Caller(imported, key=""), session_of(kind, turns)
    good(caller.post("/chat", message="Depois", session_id=session))
    assert sent(upstream) == [*STORED[kind][1], "Depois"]
    copy = caller.post(f"/sessions/{session}/fork").json()["session_id"]
    assert caller.stream("/chat", message="E depois?", session_id=copy)[-1].name == "done"
    assert len(caller.messages(session)) == min(len(STORED[kind][0]) + 2, 100), "the record keeps all"
