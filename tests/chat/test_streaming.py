"""Server-sent events: frames by the contract, complete texts, and clients that leave."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testing import scenarios
from testing.client import Caller, Event, events, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream

BOTH = pytest.mark.parametrize("path", ["/chat", "/api/message"])
EMOJI = ["Olá ", "🙂", "👨‍👩‍👧", " e", "\u0301 fim \u2028 sim", "\n\ndata: x\r\n"]


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def text_of(stream: list[Event]) -> str:
    return "".join(event.data["text"] for event in stream if event.name == "delta")


# The frames


@BOTH
def test_a_stream_starts_brings_text_and_ends(caller: Caller, upstream: Upstream, path: str) -> None:
    upstream.reply("", pieces=["Bom ", "dia"], interval=0.05)
    start, *deltas, done = caller.stream(path, message="Oi")
    assert (start.name, start.id) == ("start", None)
    assert start.data == {
        "turn_id": start.data["turn_id"],
        "session_id": start.data["session_id"],
        "model": "test/model",
    }
    assert [(delta.name, delta.id, delta.data) for delta in deltas] == [
        ("delta", "4", {"text": "Bom "}), ("delta", "7", {"text": "dia"}),
    ]  # fmt: skip
    assert (done.name, done.id) == ("done", "7")
    assert (done.data["response"], done.data["session_id"]) == ("Bom dia", start.data["session_id"])


@BOTH
def test_done_is_the_json_answer_of_the_same_call(caller: Caller, upstream: Upstream, path: str) -> None:
    plain = good(caller.post(path, message="Oi"))
    done = caller.stream(path, message="Oi")[-1].data
    for answer in (plain, done):
        for name in ("session_id", "turn_id", "timestamp"):
            answer.pop(name, None)
    assert done == plain


def test_ids_count_code_points(caller: Caller, upstream: Upstream) -> None:
    upstream.reply("", pieces=EMOJI, interval=0.05)
    _, *deltas, done = caller.stream("/chat", message="Oi")
    sent = ""
    for delta in deltas:
        sent += delta.data["text"]
        assert delta.id == str(len(sent))
    assert sent == "".join(EMOJI) == done.data["response"]
    assert done.id == str(len(sent))


def test_a_stream_s_text_is_what_is_stored(caller: Caller, upstream: Upstream) -> None:
    upstream.reply("", pieces=EMOJI)
    start, *_, done = stream = caller.stream("/chat", message="Oi")
    assert text_of(stream) == done.data["response"] == caller.texts(start.data["session_id"])[1]


@BOTH
def test_the_accept_header_asks_for_a_stream_too(caller: Caller, path: str) -> None:
    response = caller.call("POST", path, json={"message": "Oi"}, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.startswith("event: start\n")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0.5, application/json", ""])
def test_other_accept_headers_get_json(caller: Caller, accept: str) -> None:
    response = caller.call("POST", "/chat", json={"message": "Oi"}, headers={"Accept": accept})
    assert response.headers["content-type"] == "application/json"


def test_stream_false_is_a_json_answer(caller: Caller) -> None:
    assert good(caller.post("/chat", message="Oi", stream=False))["finish_reason"] == "stop"


def test_a_stream_s_headers_keep_it_from_being_held_back(caller: Caller) -> None:
    response = caller.post("/chat", message="Oi", stream=True)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers
    assert "content-encoding" not in response.headers
    assert response.headers["x-request-id"]


# Errors


@BOTH
def test_an_error_before_the_first_piece_is_a_plain_http_error(caller: Caller, upstream: Upstream, path: str) -> None:
    upstream.script(scenarios.status(402))
    problem(caller.post(path, message="Oi", stream=True), 402, "provider_payment_required")


def test_an_error_asked_for_as_a_stream_is_json(caller: Caller, upstream: Upstream) -> None:
    upstream.script(scenarios.status(500))
    response = caller.call("POST", "/chat", json={"message": "Oi"}, headers={"Accept": "text/event-stream"})
    problem(response, 502, "provider_error")
    response = caller.call("POST", "/chat", json={"message": ""}, headers={"Accept": "text/event-stream"})
    problem(response, 400, "invalid_request")


@pytest.mark.parametrize(
    "fault, code",
    [
        (scenarios.error_mid_stream(502, "Até aqui"), "provider_error"),
        (scenarios.truncated("Até aqui"), "provider_invalid_response"),
        (scenarios.reset(after="Até aqui"), "provider_invalid_response"),
    ],
    ids=["error", "truncated", "reset"],
)
def test_an_error_in_mid_stream_is_an_event(
    caller: Caller, upstream: Upstream, fault: scenarios.Scenario, code: str
) -> None:
    upstream.script(fault)
    response = caller.post("/chat", message="Oi", stream=True)
    assert response.status_code == 200
    start, *deltas, error = events(response.text)
    assert text_of(deltas) == "Até aqui"
    assert error.name == "error"
    assert error.data.items() >= {"code": code, "request_id": response.headers["x-request-id"]}.items()
    assert error.data["detail"]
    assert "own words" not in response.text
    reply = caller.messages(start.data["session_id"])[1]
    assert (reply["status"], reply["content"], reply["error"]["code"]) == ("failed", "Até aqui", code)


# No buffering


def test_a_piece_is_passed_on_while_the_upstream_still_writes(caller: Caller, upstream: Upstream) -> None:
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("fim"), after="Começo "))
    with (
        caller.connection() as client,
        client.stream("POST", "/chat", json={"message": "Oi", "stream": True}) as response,
    ):
        lines = response.iter_lines()
        assert until(lines, "data: ", 2) == {"text": "Começo "}
        gate.set()  # the upstream sends nothing more before this line
        assert until(lines, "data: ", 1) == {"text": "fim"}
        assert until(lines, "data: ", 1)["response"] == "Começo fim"


def until(lines: Iterator[str], beginning: str, count: int) -> Any:
    """The JSON of the `count`th further line with this beginning."""
    for line in lines:
        if line.startswith(beginning):
            count -= 1
            if count == 0:
                return json.loads(line.removeprefix(beginning))
    raise AssertionError("the stream ended")


def test_many_streams_at_once_do_not_mix(caller: Caller, upstream: Upstream) -> None:
    upstream.otherwise = scenarios.echo()
    with ThreadPoolExecutor(10) as pool:
        streams = list(pool.map(lambda number: caller.stream("/chat", message=f"Sou o {number}"), range(40)))
    assert [text_of(stream) for stream in streams] == [f"Eco (1): Sou o {number}" for number in range(40)]


def test_a_long_text_arrives_whole(caller: Caller, upstream: Upstream) -> None:
    upstream.reply("", pieces=[f"palavra {number} é " for number in range(3000)])
    stream = caller.stream("/chat", message="Fale muito")
    assert text_of(stream) == stream[-1].data["response"] == "".join(f"palavra {number} é " for number in range(3000))


# Clients that leave


def leave(service: Service, key: str, body: dict[str, Any], *, after: bytes = b"", path: str = "/chat") -> None:
    """Ask, wait until `after` has come, and close the socket."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        received = b""
        while after not in received:
            received += connection.recv(4096)
        if not after:
            wait_for_question(service, body["session_id"])


def wait_for_question(service: Service, session_id: str) -> None:
    query = "SELECT count(*) FROM sessions_api_session WHERE session_id = %s"
    wait_until(lambda: service.sql(query, session_id) == [(1,)])


def wait_for_the_end(caller: Caller, session_id: str) -> None:
    wait_until(lambda: caller.messages(session_id)[1]["status"] != "pending")


def test_a_client_that_leaves_in_mid_stream_loses_nothing(caller: Caller, upstream: Upstream) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    body = {"message": "Oi", "session_id": session, "stream": True}
    leave(caller.service, caller.key, body, after="O começo ".encode())
    gate.set()
    wait_for_the_end(caller, session)
    assert caller.texts(session) == ["Oi", "O começo e o fim"]
    assert caller.messages(session)[1]["status"] == "completed"
    assert (upstream.count, upstream.closed_early) == (1, 0)


def test_a_turn_goes_on_for_longer_than_the_server_waits_for_a_client_that_left(
    caller: Caller, upstream: Upstream
) -> None:
    """The server cancels a request three seconds after its client left, but not the turn."""
    session = new_id()
    upstream.script(scenarios.ok("", pieces=["passo "] * 8, interval=0.5))
    leave(caller.service, caller.key, {"message": "Oi", "session_id": session, "stream": True}, after=b"passo ")
    wait_for_the_end(caller, session)
    assert caller.texts(session)[1] == "passo " * 8
    assert upstream.closed_early == 0


@BOTH
def test_a_json_client_that_leaves_loses_nothing(caller: Caller, upstream: Upstream, path: str) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Resposta inteira")))
    leave(caller.service, caller.key, {"message": "Oi", "session_id": session}, path=path)
    gate.set()
    wait_for_the_end(caller, session)
    assert caller.texts(session) == ["Oi", "Resposta inteira"]
    assert upstream.count == 1


def test_twenty_clients_that_leave_lose_nothing(caller: Caller, upstream: Upstream) -> None:
    sessions = [new_id() for _ in range(20)]
    upstream.otherwise = scenarios.ok("", pieces=["um ", "dois ", "três"], interval=0.1)

    def drop(session: str) -> None:
        leave(
            caller.service, caller.key, {"message": "Oi", "session_id": session, "stream": True}, after=b"event: delta"
        )

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(drop, sessions))
    for session in sessions:
        wait_for_the_end(caller, session)
        assert caller.texts(session) == ["Oi", "um dois três"]
    assert upstream.count == 20


def test_a_client_that_leaves_while_its_session_is_busy_is_answered_in_its_turn(
    caller: Caller, upstream: Upstream
) -> None:
    gate, session = threading.Event(), new_id()
    upstream.script(scenarios.gated(gate, scenarios.ok("Primeira")))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(caller.chat, "Um", session_id=session)
        upstream.wait_until(lambda: upstream.count == 1)
        leave(caller.service, caller.key, {"message": "Dois", "session_id": session})
        gate.set()
        first.result()
    caller.chat("Três", session_id=session)
    texts = caller.texts(session)
    # The server may or may not have accepted the message, but there is never half a turn.
    assert texts in (
        ["Um", "Primeira", "Três", "Eco (3): Três"],
        ["Um", "Primeira", "Dois", "Eco (3): Dois", "Três", "Eco (5): Três"],
    )


def test_the_answer_begins_although_the_upstream_stays_silent(caller: Caller, upstream: Upstream) -> None:
    """After ten seconds, so that no proxy takes the silence for an end."""
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.ok("Enfim")))
    with (
        caller.connection() as client,
        client.stream("POST", "/chat", json={"message": "Oi", "stream": True}) as response,
    ):
        lines = response.iter_lines()
        assert next(lines) == "event: start"
        gate.set()
        assert until(lines, "data: ", 2) == {"text": "Enfim"}
