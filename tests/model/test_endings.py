"""Replies of a real model that end early: by a cancellation, or because the model server dies and comes back."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from testing.client import Caller, Event, events, good, new_id, wait_until
from testing.llama.server import NAME, Llama
from testing.service import Service

STORY = "Tell me a very long story about a bank."
DOWN = {(502, "provider_unreachable"), (503, "provider_unavailable")}


@pytest.fixture
def caller(endless_service: Service) -> Caller:
    return Caller(endless_service, key="")


@contextmanager
def hearing(caller: Caller, **body: object) -> Iterator[Iterator[Event]]:
    """The events of a stream, as they come."""
    with (
        caller.connection() as client,
        client.stream("POST", "/chat", json={"message": STORY, "max_tokens": 1800, "stream": True, **body}) as response,
    ):
        yield parsed(response.iter_lines())


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    frame = ""
    for line in lines:
        frame += line + "\n"
        if not line:
            yield from (event for event in events(frame) if event.name != ":")
            frame = ""


def begin(stream: Iterator[Event]) -> tuple[str, str]:
    """The turn's id, and the first words of the reply."""
    start = next(stream)
    assert (start.name, start.data["model"]) == ("start", NAME)
    first = [next(stream).data["text"] for _ in range(5)]
    return start.data["turn_id"], "".join(first)


def test_a_stream_shows_the_words_while_the_model_still_writes(caller: Caller, endless: Llama) -> None:
    with hearing(caller, max_tokens=200) as stream:
        _, text = begin(stream)
        assert endless.slot()["is_processing"]
        *rest, done = stream
    assert done.name == "done"
    assert text + "".join(event.data["text"] for event in rest) == done.data["response"]
    assert done.data["usage"]["completion_tokens"] == 200
    assert len(rest) > 10


def test_a_cancelled_reply_keeps_its_text_and_the_model_stops(caller: Caller, endless: Llama) -> None:
    session = new_id()
    with hearing(caller, session_id=session) as stream:
        turn_id, text = begin(stream)
        state = good(caller.call("POST", f"/turns/{turn_id}/cancel"))
        *rest, done = stream
    assert (done.name, done.data["finish_reason"], state["status"]) == ("done", "cancelled", "cancelled")
    wait_until(lambda: not endless.slot()["is_processing"])
    reply = caller.messages(session)[-1]
    assert (reply["status"], reply["usage"]["estimated"]) == ("cancelled", True)
    assert reply["content"] == text + "".join(event.data["text"] for event in rest)
    assert 0 < reply["usage"]["completion_tokens"] < 1800
    answer = caller.chat("And then?", session_id=session, max_tokens=8)
    assert answer["usage"]["prompt_tokens"] == endless.count(
        [
            {"role": "user", "content": STORY},
            {"role": "assistant", "content": reply["content"]},
            {"role": "user", "content": "And then?"},
        ]
    )


def test_a_client_that_leaves_stops_nothing(caller: Caller, endless: Llama) -> None:
    session = new_id()
    with hearing(caller, session_id=session, max_tokens=100) as stream:
        begin(stream)
    wait_until(lambda: caller.messages(session)[-1]["status"] == "completed")
    assert caller.messages(session)[-1]["usage"]["completion_tokens"] == 100


def test_the_model_server_dies_in_mid_reply_and_comes_back(caller: Caller, endless: Llama) -> None:
    session = new_id()
    with hearing(caller, session_id=session) as stream:
        _, text = begin(stream)
        endless.kill()
        *rest, error = stream
    assert (error.name, error.data["may_have_been_billed"]) == ("error", True)
    assert error.data["code"] in ("provider_unreachable", "provider_invalid_response")
    reply = caller.messages(session)[-1]
    assert (reply["status"], reply["error"]["code"]) == ("failed", error.data["code"])
    assert reply["content"] == text + "".join(event.data["text"] for event in rest)
    refusals = [caller.post("/chat", message="Are you there?", max_tokens=4) for _ in range(4)]
    assert {(refusal.status_code, refusal.json()["code"]) for refusal in refusals} <= DOWN
    endless.start()
    wait_until(lambda: caller.post("/chat", message="And now?", max_tokens=4).status_code == 200)
    answer = caller.chat("And then?", session_id=session, max_tokens=8)
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["prompt_tokens"] == endless.count(
        [
            {"role": "user", "content": STORY},
            {"role": "assistant", "content": reply["content"]},
            {"role": "user", "content": "And then?"},
        ]
    )


def test_a_server_that_starts_is_answered_for_with_errors_that_say_so(caller: Caller, endless: Llama) -> None:
    """At first it refuses connections, then it says that it is loading its model, with 503."""
    endless.kill()
    endless.launch()
    said = set()
    deadline = time.monotonic() + 60
    while True:
        answer = caller.post("/chat", message="Hello!", max_tokens=4)
        if answer.status_code == 200:
            break
        said.add((answer.status_code, answer.json()["code"]))
        assert time.monotonic() < deadline
    assert said <= DOWN
    assert caller.texts(answer.json()["session_id"]) == ["Hello!", answer.json()["response"]]
