"""Invalid input costs little before its refusal, is refused in JSON, and reaches nothing else."""

import contextlib
import gzip
import json
import socket
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, good, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services
from web.errors import ApiError
from web.parsers import MAX_DEPTH, MAX_NUMBER_CHARS, MAX_VALUES, parse_json

MIB = 1024 * 1024


@pytest.fixture
def service(front: Service) -> Service:
    """No database changes what these tests show."""
    return front


def filled(value: str, opening: str = "[", closing: str = "]") -> bytes:
    """A body of nearly 1 MiB that repeats a value."""
    once = value.encode() + b","
    return opening.encode() + (once * ((MIB - 100) // len(once)))[:-1] + closing.encode()


def text(value: str) -> bytes:
    return filled(value).replace(b",", b"").replace(b"[", b'{"message": "', 1)[:-1] + b'"}'


LARGE = {
    "brackets": b"[" * MIB,
    "objects within objects": b'{"a":' * (MIB // 5),
    "arrays within arrays": b"[" * (MIB // 2) + b"]" * (MIB // 2),
    "empty arrays": filled("[]"),
    "empty objects": filled("{}"),
    "arrays in arrays, none too deep": filled("[" * 30 + "]" * 30),
    "objects": filled('{"a":0}'),
    "ones": filled("1"),
    "floats": filled("1.5"),
    "strings": filled('"ab"'),
    "strings of two bytes": filled('"ā"'),
    "names": b"{" + b",".join(b'"%x":0' % n for n in range(100_000)) + b"}",
    "one name again and again": filled('"message":"Oi"', "{", "}"),
    "a whole number": b'{"message":' + b"9" * (MIB - 100) + b"}",
    "whole numbers": filled("9" * 4300),
    "a fraction": b'{"message":0.' + b"9" * (MIB - 100) + b"}",
    "an exponent": b'{"message":1e' + b"9" * (MIB - 100) + b"}",
    "closing brackets": b"]" * MIB,
    "pairs of brackets": b"[]" * (MIB // 2),
    "commas": b"," * MIB,
    "quotes": b'"' * MIB,
    "backslashes": b'"' + b"\\" * (MIB - 2) + b'"',
    "NUL": b"\0" * MIB,
    "no UTF-8": b'{"message":"' + b"\xff" * (MIB - 100) + b'"}',
    "lone surrogates": text("\\ud83d"),
    "a text that does not end": b'{"message":"' + b"x" * (MIB - 100),
    "white space": b" " * (MIB - 10) + b"{}",
    "emoji": text("🙂"),
    "escapes": text("\\u0101"),
    "brackets in a text": text("[{"),
}


@pytest.fixture
def caller(service: Service, upstream: Upstream) -> Iterator[Caller]:
    """A caller whose requests must reach nobody, and leave no traceback."""
    before = len(service.log())
    yield Caller(service)
    assert upstream.count == 0
    assert "Traceback" not in service.log()[before:]
    assert " ERROR " not in service.log()[before:]


def outcome(body: bytes) -> str:
    try:
        parse_json(body)
    except ApiError as refusal:
        return refusal.code
    return "taken"


# The JSON: its size and its depth


@pytest.mark.parametrize("name", LARGE)
def test_a_large_body_takes_little_memory(name: str) -> None:
    body = LARGE[name]
    tracemalloc.start()
    try:
        outcome(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) <= MIB
    assert peak < 8 * MIB  # the text itself, at four bytes a character, and little else


@pytest.mark.parametrize("name", LARGE)
def test_a_large_body_is_refused_in_json(caller: Caller, name: str) -> None:
    problem(caller.post_raw("/chat", LARGE[name]), 400, "invalid_request")


@pytest.mark.parametrize("name", LARGE)
def test_a_large_body_takes_little_work(name: str) -> None:
    began = time.thread_time()
    outcome(LARGE[name])
    assert time.thread_time() - began < 0.3  # seconds of the processor; measured: 0.01


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_so_deep_and_no_deeper(opening: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{")
    assert outcome(nested(MAX_DEPTH // levels, opening, closing)) == "taken"
    assert outcome(b"[" + nested(MAX_DEPTH // levels, opening, closing) + b"]") == "invalid_request"


@pytest.mark.parametrize(
    ("value", "counts"),
    [("1", 1), ("null", 1), ("[]", 2), ("{}", 2), ('{"a":1}', 2), ('{"a":[]}', 3), ('"[{,"', 1), ('"\\"[\\\\"', 1)],
)
def test_so_many_values_and_no_more(value: str, counts: int) -> None:
    """Only commas and opening brackets outside of strings count."""
    most = MAX_VALUES // counts
    bodies = [b"[" + b",".join([value.encode()] * count) + b"]" for count in (most, most + 1)]
    assert [outcome(body) for body in bodies] == ["taken", "invalid_request"]


@pytest.mark.parametrize(
    "inside", ["[" * 20_000, "{" * 20_000, "," * 30_000, '\\"[' * 10_000, "\\\\[" * 10_000, "]}" * 9]
)
def test_a_text_may_hold_any_number_of_brackets_and_commas(inside: str) -> None:
    body = f'{{"message": "{inside}", "persona_id": "[", "x": [{{}}]}}'.encode()
    assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize("trick", [b'\\"', b'"\\\\"', b'"\\\\\\""', b'"\\"\\\\\\"["', b'"a\\\\"'])
def test_no_backslash_hides_what_follows(trick: bytes) -> None:
    assert outcome(b"[" + trick + b"," + b"[" * 40 + b"]" * 40 + b"]") == "invalid_request"


@pytest.mark.parametrize(
    "number", ["1" * MAX_NUMBER_CHARS, "-1" + "0" * 300, "0." + "1" * 300, "1e308", "5e-324", "-0"]
)
def test_a_number_that_is_one_comes_through(number: str) -> None:
    assert parse_json(number.encode()) == json.loads(number)


@pytest.mark.parametrize(
    "number", ["1" * (MAX_NUMBER_CHARS + 1), "0." + "1" * MAX_NUMBER_CHARS, "1e309", "-1e309", "1e" + "9" * 50, "NaN"]
)
def test_a_number_that_nobody_could_keep_is_refused(number: str) -> None:
    for body in (number, f"[{number}]", f'{{"unknown": {number}}}'):
        assert outcome(body.encode()) == "invalid_request"


def test_of_a_name_that_comes_twice_the_last_value_counts(service: Service, upstream: Upstream) -> None:
    good(Caller(service).post_raw("/chat", b'{"message": "Um", ' + b'"message": "Dois", ' * 9000 + b'"message": "Oi"}'))
    assert upstream.requests[0].messages[-1]["content"] == "Oi"


# The body and how it comes


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x", "GZIP"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/chat"), ("PATCH", "/sessions/x"), ("POST", "/admin/login/")])
def test_a_packed_body_is_refused_as_it_is(caller: Caller, method: str, path: str, coding: str) -> None:
    body = gzip.compress(b'{"message": "' + b"x" * MIB + b'"}')
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    problem(caller.call(method, path, content=body, headers=headers), 415, "unsupported_media_type")


def test_an_identity_coding_is_none(service: Service) -> None:
    good(Caller(service).post_raw("/chat", b'{"message": "Oi"}', Content_Encoding="identity"))


def test_a_packed_body_behind_a_charset_is_not_unpacked(caller: Caller) -> None:
    body = zlib.compress(b'{"message": "' + b"x" * 50 * MIB + b'"}')
    response = caller.post_raw("/api/message", body, Content_Type="application/json; charset=zlib")
    problem(response, 400, "invalid_request")


# The bytes on the wire

HOST = b"Host: localhost\r\nConnection: close\r\n"
CHAT = b"POST /chat HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
WIRE = {
    "a path that is too long": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST, 414, "request_too_large"),
    "a header that is too long": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 20_000 + b"\r\n", 431, "request_too_large"
    ),
    "too many headers": (
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: x\r\n" % n for n in range(200)), 431, "request_too_large"
    ),
    "no HTTP": (b"nada\r\n", 400, "invalid_request"),
    "another version": (b"GET /health HTTP/9.9\r\n" + HOST, 400, "invalid_request"),
    "NUL in the path": (b"GET /sess\0ions HTTP/1.1\r\n" + HOST, 400, "invalid_request"),
    "NUL in the query": (b"GET /sessions?q=a\0b HTTP/1.1\r\n" + HOST, 400, "invalid_request"),
    "%00 in the path": (b"GET /sessions/a%00b HTTP/1.1\r\n" + HOST, 404, "not_found"),
    "%00 in the query": (b"GET /sessions?q=%00 HTTP/1.1\r\n" + HOST, 400, "invalid_request"),
    "bytes in the path": ("GET /sessão HTTP/1.1\r\n".encode() + HOST, 400, "invalid_request"),
    "bytes in the query": ("GET /sessions?q=ã HTTP/1.1\r\n".encode() + HOST, 400, "invalid_request"),
    "NUL in a header": (b"GET /sessions HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n", 400, "invalid_request"),
    "two hosts": (b"GET /sessions HTTP/1.1\r\n" + HOST + b"Host: localhost\r\n", 400, "invalid_request"),
    "line feeds alone": (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400, "invalid_request"),
    "a length below zero": (CHAT + b"Content-Length: -1\r\n", 400, "invalid_request"),
    "a length with a sign": (CHAT + b"Content-Length: +2\r\n", 400, "invalid_request"),
    "two lengths": (CHAT + b"Content-Length: 2\r\nContent-Length: 3\r\n", 400, "invalid_request"),
    "a length of 30 digits": (CHAT + b"Content-Length: " + b"9" * 30 + b"\r\n", 413, "request_too_large"),
    "a length of 5,000 digits": (CHAT + b"Content-Length: " + b"9" * 5000 + b"\r\n", 400, "invalid_request"),
    "a length and chunks": (CHAT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400, "invalid_request"),
    "another transfer coding": (CHAT + b"Transfer-Encoding: gzip\r\n", 400, "invalid_request"),
    "no length and no chunks": (CHAT, 400, "invalid_request"),
    "a method of its own": (b"BREW /chat HTTP/1.1\r\n" + HOST, 405, "method_not_allowed"),
    "a tunnel": (b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST, 404, "not_found"),
    "all of the server": (b"OPTIONS * HTTP/1.1\r\n" + HOST, 404, "not_found"),
    "a web socket": (
        b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 405, "method_not_allowed"
    ),
}  # fmt: skip


def on_the_wire(service: Service, request: bytes) -> tuple[int, httpx.Headers, bytes]:
    """Status, headers and body of the first answer to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        lines = iter(lambda: answer.readline().strip(), b"")
        headers = httpx.Headers([(name, value) for name, _, value in (line.partition(b": ") for line in lines)])
        return status, headers, answer.read(int(headers["content-length"]))


@pytest.mark.parametrize("name", WIRE)
def test_what_is_wrong_on_the_wire_is_told_in_json(caller: Caller, name: str) -> None:
    request, status, code = WIRE[name]
    answered, headers, body = on_the_wire(caller.service, request + b"\r\n")
    assert (answered, headers["content-type"], json.loads(body)["code"]) == (status, "application/json", code)
    assert json.loads(body)["request_id"] == headers["x-request-id"]
    assert b"HTTP" not in body


def test_a_body_in_bad_chunks_is_told_in_json(caller: Caller) -> None:
    head = CHAT + b"Transfer-Encoding: chunked\r\n\r\n"
    for chunks in (b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"):
        status, headers, body = on_the_wire(caller.service, head + chunks)
        assert (status, headers["content-type"], json.loads(body)["code"]) == (
            400,
            "application/json",
            "invalid_request",
        )


def test_a_length_that_is_too_short_cuts_the_body(caller: Caller) -> None:
    status, _, body = on_the_wire(caller.service, CHAT + b'Content-Length: 12\r\n\r\n{"message": "Oi"}')
    assert (status, json.loads(body)["code"]) == (400, "invalid_request")


# The way to the provider


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/chat", "/api/message"])
def test_a_redirect_of_the_provider_is_not_followed(
    service: Service, upstream: Upstream, path: str, status: int
) -> None:
    elsewhere = {"Location": f"{upstream.url}/elsewhere"}
    upstream.otherwise = scenarios.status(status, "", headers=elsewhere)
    problem(Caller(service).post(path, message="Oi"), 502, "provider_error")
    assert [request.path for request in upstream.requests] == ["/v1/chat/completions"]


def test_a_redirect_of_the_list_of_models_is_not_followed(fronts: Services, upstream: Upstream) -> None:
    service = fronts.shared(MODELS_CACHE_SECONDS="0")
    upstream.models = scenarios.status(302, "", headers={"Location": f"{upstream.url}/elsewhere"})
    problem(Caller(service).get("/models"), 502, "provider_error")
    assert {request.path for request in upstream.model_requests} == {"/v1/models"}
    assert upstream.requests == []


def test_nothing_that_a_caller_sends_changes_where_its_key_goes(service: Service, upstream: Upstream) -> None:
    elsewhere = "http://127.0.0.1:9/v1"
    names = ("base_url", "api_base", "endpoint", "url", "provider", "openrouter_base_url", "proxy", "extra_body")
    wishes: dict[str, Any] = dict.fromkeys(names, elsewhere)
    headers = dict.fromkeys(("X-Base-URL", "OpenAI-Base-URL", "Forwarded", "X-Forwarded-Host", "Proxy"), elsewhere)
    caller = Caller(service, **headers)
    good(caller.post("/chat", message="Oi", **wishes))
    good(caller.call("POST", f"/chat?base_url={elsewhere}", json={"message": "Oi", "options": wishes}))
    assert upstream.count == 2
    for request in upstream.requests:
        assert request.headers["authorization"] == f"Bearer {caller.key}"
        assert elsewhere not in json.dumps([request.body, request.headers])


@pytest.mark.parametrize("path", ["/sessions", "/api/sessions", "/docs", "/turns/t/events", "/models"])
def test_more_parameters_than_anybody_needs_are_refused(caller: Caller, path: str) -> None:
    problem(caller.get(f"{path}?{'a&' * 1001}"), 400, "invalid_request")


def test_a_body_in_crumbs_is_refused(caller: Caller) -> None:
    crumbs = b"1\r\n \r\n" * 20_000
    head = b"POST /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", caller.service.port), timeout=30) as connection:
        with contextlib.suppress(OSError):  # it may be closed before all has gone
            connection.sendall(head + crumbs + b"0\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 413")
