"""Invalid requests get 4xx in JSON, change nothing, and never reach the provider."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from bancobot_project.server.application import Application
from testing.client import Caller, good, new_id, problem
from testing.inside import Inside
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services

BOTH = pytest.mark.parametrize("path", ["/chat", "/api/message"])
DEEP = 100_000


@pytest.fixture(scope="module")
def application() -> Application:
    return Application()


@pytest.fixture
def caller(application: Application) -> Inside:
    """A caller of the application in this process, which has no database: whoever asks for it gets 500.

    A turn is stored before the provider is asked, so nothing reaches the provider either.
    """
    return Inside(application)


@pytest.fixture(scope="module")
def _stranger(fronts: Services) -> Iterator[Caller]:
    stranger = Caller(fronts.shared())
    yield stranger
    assert good(stranger.get("/sessions"))["data"] == [], "something was stored"


@pytest.fixture
def outsider(_stranger: Caller, front: Service, upstream: Upstream) -> Iterator[Caller]:
    """A caller of the real server, whose requests may leave nothing, neither here nor upstream."""
    yield _stranger
    assert upstream.count == 0, "something was sent upstream"


@pytest.fixture(scope="module")
def session(services: Services) -> tuple[Caller, str]:
    caller, session_id = Caller(services.shared()), new_id()
    caller.chat("Oi", session_id=session_id)
    return caller, session_id


def test_what_opens_the_database_is_seen(caller: Inside) -> None:
    problem(caller.get("/sessions"), 500, "internal_error")
    problem(caller.post("/chat", message="Oi"), 500, "internal_error")


def raw(value: str) -> bytes:
    """A body with a valid `message` and further raw JSON."""
    return b'{"message": "Oi", ' + value.encode("utf-8", "surrogatepass") + b"}"


# The values

BAD_MESSAGES = [
    "", " ", "\n\t\u3000\u00a0 ", None, 1, 1.5, True, [], ["Oi"], {}, {"text": "Oi"}, "x" * 100_001, "é" * 100_001,
    "nul \0", "\ud800", "a\udfffb", "\udc00\ud800",
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("message", BAD_MESSAGES, ids=[f"{n}-{ascii(m)[:12]}" for n, m in enumerate(BAD_MESSAGES)])
def test_a_message_that_is_none_is_refused(caller: Inside, path: str, message: Any) -> None:
    problem(caller.post_raw(path, json.dumps({"message": message}).encode()), 400, "invalid_request")


@BOTH
def test_a_missing_message_is_named(caller: Inside, path: str) -> None:
    assert "message" in problem(caller.post(path), 400, "invalid_request")["errors"]


def test_the_longest_message_is_taken(service: Service, upstream: Upstream) -> None:
    upstream.reply("Li tudo")
    longest = "🙂" * 100_000
    Caller(service).chat(longest)
    assert upstream.requests[0].messages[-1]["content"] == longest


BAD_CHAT = {
    "model": [1, [], {}, True, "x" * 201, "nul\0", "\ud800", ""],
    "temperature": [-0.1, 2.1, "quente", "1", True, [], {}, 10**400, -(10**400)],
    "max_tokens": [0, -1, 1.5, "10", True, [], 10**400, -(10**400), 1e300, 2**63],
    "session_id": [1, True, [], {}, "x" * 129, "a/b", "a b", "á", "a\n", "a\0", "\ud800", "../x", "a?b", "%00"],
    "system_prompt": [1, [], {}, True, "x" * 100_001, "nul\0", "\ud800"],
    "stream": [1, 0, "true", "sim", [], {}, ""],
}
BAD_MESSAGE = {
    "session_id": BAD_CHAT["session_id"],
    "persona_id": [1, True, [], {}, "x" * 201, "nul\0", "\ud800"],
    "timing_metadata": ["x", 1, True, [], [1], {"a": "nul\0"}, {"nul\0": 1}, {"a": ["\ud800"]}, {"x": "y" * 20_000}],
    "stream": BAD_CHAT["stream"],
}
CASES = [
    (path, name, value)
    for path, fields in (("/chat", BAD_CHAT), ("/api/message", BAD_MESSAGE))
    for name, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(
    "path, name, value", CASES, ids=[f"{n}-{case[1]}-{ascii(case[2])[:10]}" for n, case in enumerate(CASES)]
)
def test_a_wrong_value_is_refused(caller: Inside, path: str, name: str, value: Any) -> None:
    body = json.dumps({"message": "Oi", name: value}).encode()
    problem(caller.post_raw(path, body), 400, "invalid_request")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e400", "1" + "0" * 5000])
@pytest.mark.parametrize("body", ['"temperature": {}', '"max_tokens": {}', '"timing_metadata": {{"a": {}}}'])
def test_numbers_that_are_none_are_refused(caller: Inside, number: str, body: str) -> None:
    path = "/api/message" if "timing" in body else "/chat"
    problem(caller.post_raw(path, raw(body.format(number))), 400, "invalid_request")


# The JSON

BAD_BODIES = {
    "empty": b"",
    "space": b" ",
    "cut": b'{"message": "Oi"',
    "two": b'{"message": "Oi"}{"message": "Oi"}',
    "list": b'[{"message": "Oi"}]',
    "string": b'"Oi"',
    "number": b"1",
    "null": b"null",
    "single quotes": b"{'message': 'Oi'}",
    "comment": b'{"message": "Oi"} // Oi',
    "control character": b'{"message": "O\x00i"}',
    "newline in a string": b'{"message": "O\ni"}',
    "latin-1": '{"message": "não"}'.encode("latin-1"),
    "utf-16": '{"message": "Oi"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"message": "Oi"}',
    "surrogate in utf-8": b'{"message": "\xed\xa0\x80"}',
    "overlong": b'{"message": "\xc0\xaf"}',
    "cut character": b'{"message": "\xc3"}',
    "escaped nul": b'{"message": "\\u0000"}',
    "escaped nul in a key": b'{"message": "Oi", "\\u0000": 1}',
    "escaped nul in an unknown key's value": b'{"message": "Oi", "x": ["\\\\\\u0000"]}',
    "lone surrogate in an unknown key's value": b'{"message": "Oi", "x": {"y": "\\udead"}}',
    "deep lists": b'{"message": "Oi", "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"message": "Oi", "x": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep and unfinished": b"[" * DEEP,
    "rather deep": b'{"message": "Oi", "timing_metadata": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "form": b"message=Oi",
}


@BOTH
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_no_good_json_is_refused(caller: Inside, path: str, body: bytes) -> None:
    problem(caller.post_raw(path, body), 400, "invalid_request")


def test_an_escaped_backslash_before_u0000_is_a_text(service: Service, upstream: Upstream) -> None:
    upstream.reply("Certo")
    good(Caller(service).post_raw("/chat", b'{"message": "\\\\u0000 e \\ud83d\\ude42"}'))
    assert upstream.requests[0].messages[-1]["content"] == "\\u0000 e 🙂"


@BOTH
@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/html", "x"],
)
def test_another_content_type_is_refused(caller: Inside, path: str, content_type: str) -> None:
    problem(caller.post_raw(path, b'{"message": "Oi"}', Content_Type=content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["zlib", "utf-7", "latin-1", "base64", "rot13", "nada", "idna"])
def test_a_charset_is_not_believed(caller: Inside, charset: str) -> None:
    """JSON is UTF-8. Some of Python's codecs would expand a small body into a large one."""
    body = zlib.compress(b'{"message": "' + b"x" * 5_000_000 + b'"}')
    assert len(body) < 10_000
    problem(caller.post_raw("/chat", body, Content_Type=f"application/json; charset={charset}"), 400, "invalid_request")


def test_a_compressed_body_is_not_unpacked(caller: Inside) -> None:
    response = caller.post_raw("/chat", gzip.compress(b'{"message": "Oi"}'), Content_Encoding="gzip")
    problem(response, 415, "unsupported_media_type")


# Size


@BOTH
def test_a_body_over_the_limit_is_413(outsider: Caller, path: str) -> None:
    body = b'{"message": "Oi", "x": "' + b"x" * 1024 * 1024 + b'"}'
    problem(outsider.post_raw(path, body), 413, "request_too_large")


@pytest.mark.parametrize("method, path", [("POST", "/chat"), ("PATCH", "/sessions/x"), ("DELETE", "/sessions/x")])
def test_a_chunked_body_over_the_limit_is_413(outsider: Caller, method: str, path: str) -> None:
    """Without Content-Length the limit is met while reading."""

    def pieces() -> Iterator[bytes]:
        yield b'{"message": "'
        for _ in range(24):
            yield b"x" * 65_536
        yield b'"}'

    response = outsider.call(method, path, content=pieces(), headers={"Content-Type": "application/json"})
    problem(response, 413, "request_too_large")


def test_a_chunked_body_within_the_limit_is_taken(service: Service) -> None:
    pieces = (piece for piece in (b'{"mess', b'age": "O', b'i"}'))
    assert good(Caller(service).post_raw("/chat", pieces))["response"] == "Eco (1): Oi"


def test_a_chunked_change_is_made(service: Service) -> None:
    caller = Caller(service)
    session_id = caller.chat("Oi")["session_id"]
    pieces = (piece for piece in (b'{"title": "Em ', b'partes"}'))
    headers = {"Content-Type": "application/json"}
    good(caller.call("PATCH", f"/sessions/{session_id}", content=pieces, headers=headers))
    assert caller.session(session_id)["title"] == "Em partes"


def test_the_rest_of_a_refused_body_is_no_request(front: Service, upstream: Upstream) -> None:
    """The rest of a refused body must not be read as the next request."""
    inner = b'{"message": "escondida"}'
    hidden = (
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(inner)
    )
    head = (
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(head + (hidden + inner) * 50)
        received = b""
        while b"request_id" not in received:
            received += connection.recv(65_536)
        assert received.startswith(b"HTTP/1.1 413")
        assert received.count(b"HTTP/1.1") == 1
    good(Caller(front).get("/health"))
    assert upstream.count == 0


def test_a_client_that_leaves_in_the_middle_of_its_body_changes_nothing(outsider: Caller) -> None:
    head = "POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {outsider.key}\r\n"
    with socket.create_connection(("127.0.0.1", outsider.service.port), timeout=30) as connection:
        # What has come is good JSON, but there was more to come.
        connection.sendall(f"{head}Content-Length: 30\r\n\r\n".encode() + b'{"message": "Oi"}')
    good(outsider.get("/health"))


# Addresses, methods and parameters


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("GET", "/chat", 405, "method_not_allowed"), ("PUT", "/chat", 405, "method_not_allowed"),
        ("DELETE", "/chat", 405, "method_not_allowed"), ("OPTIONS", "/chat", 405, "method_not_allowed"),
        ("GET", "/api/message", 405, "method_not_allowed"), ("POST", "/models", 405, "method_not_allowed"),
        ("POST", "/sessions", 405, "method_not_allowed"), ("PUT", "/sessions/x", 405, "method_not_allowed"),
        ("POST", "/sessions/x", 405, "method_not_allowed"), ("GET", "/api/sessions/x", 405, "method_not_allowed"),
        ("POST", "/api/sessions", 405, "method_not_allowed"), ("DELETE", "/sessions", 405, "method_not_allowed"),
        ("POST", "/sessions/x/messages", 405, "method_not_allowed"), ("POST", "/turns/x", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"), ("DELETE", "/health", 405, "method_not_allowed"),
        ("BREW", "/chat", 405, "method_not_allowed"), ("BREW", "/sessions", 405, "method_not_allowed"),
        ("GET", "/nada", 404, "not_found"), ("POST", "/nada", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/chat/x", 404, "not_found"), ("GET", "/api", 404, "not_found"),
        ("GET", "/sessions/a/b", 404, "not_found"),
        ("GET", "/sessions//messages", 404, "session_not_found"),
        ("GET", "/turns/a.b", 404, "not_found"), ("GET", "/.env", 404, "not_found"),
        ("GET", "/static/../manage.py", 404, "not_found"), ("GET", "/static/%2e%2e/manage.py", 404, "not_found"),
    ],
)  # fmt: skip
def test_a_wrong_method_or_address_is_told_in_json(
    outsider: Caller, method: str, path: str, status: int, code: str
) -> None:
    problem(outsider.call(method, path), status, code)


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/a%00b", "/sessions/%00", "/turns/a%00", "/api/sessions/a%00", "/chat%00", "/%00", "/sessions/%FF%FE",
        "/sessions/%ED%A0%80", "/sessions/%C0%AF", "/sessions/a%2Fb", "/sessions/" + "x" * 129,
        "/sessions/" + "x" * 3000, "/sessions/a%20b", "/sessions/%F0%9F%99%82", "/sessions/x%0a",
        "/turns/" + "x" * 65, "/turns/" + "x" * 3000,
        "/sessions/a%0D%0AX-Injected:%20sim", "/sessions/'; DROP TABLE x; --",
    ],
)  # fmt: skip
def test_a_strange_path_is_a_missing_thing(outsider: Caller, path: str) -> None:
    method = "DELETE" if path.startswith("/api") else "GET"
    response = outsider.call(method, path)
    problem(response, 404, response.json()["code"])
    assert response.json()["code"] in ("not_found", "session_not_found", "turn_not_found")
    assert "x-injected" not in response.headers


@pytest.mark.parametrize("path", ["/sessions", "/api/sessions", "/sessions/x/messages"])
@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1001", "limit=abc", "limit=", "limit=1.5", "limit=1e1",
        "limit=99999999999999999999", "limit=%00", "limit=1%00", "limit= 1", "limit=NaN",
    ],
)  # fmt: skip
def test_a_limit_out_of_range_is_refused(caller: Inside, path: str, query: str) -> None:
    problem(caller.get(f"{path}?{query}"), 400, "invalid_request")


@pytest.mark.parametrize(
    "path, most", [("/sessions", 100), ("/sessions/{session}/messages", 100), ("/api/sessions", 1000)]
)
def test_the_largest_limit_is_taken(session: tuple[Caller, str], path: str, most: int) -> None:
    caller, session_id = session
    address = path.format(session=session_id)
    good(caller.get(f"{address}?limit={most}"))
    problem(caller.get(f"{address}?limit={most + 1}"), 400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x", "cursor=1", "cursor=1.", "cursor=.1", "cursor=1.2.3", "cursor=-1.1", "cursor=" + "9" * 40 + ".1",
        "cursor=999999999999999999.1", "cursor=%00", "cursor=1.1%00", "since=ontem", "since=2026-13-01",
        "since=2026-02-30",
        "since=1", "until=25:00", "since=%00", "since=2026-01-01T00:00:00%2B99:99", "since=0001-01-01T00:00:00%2B23:59",
        "until=9999-12-31T23:59:59-23:59", "q=%00", "q=a%00b", "persona_id=%00", "since=99999-01-01",
    ],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_refused(caller: Inside, query: str) -> None:
    problem(caller.get(f"/sessions?{query}"), 400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "after=x", "after=x.y", "before=x.-1", "before=1.99999999999", "after=%00", "order=para", "order=DESC",
        "order=%00",
        "after=x.1%00", "before=" + "9" * 500,
    ],
)  # fmt: skip
def test_a_message_id_that_makes_no_sense_is_refused(session: tuple[Caller, str], query: str) -> None:
    caller, session_id = session
    problem(caller.get(f"/sessions/{session_id}/messages?{query}"), 400, "invalid_request")


@pytest.mark.parametrize(
    "query", ["q=%FF", "q=%ED%A0%80", "q=" + "x" * 3000, "persona_id=" + "x" * 3000, "nada=1", "&&&=", "q"]
)
def test_a_strange_search_finds_nothing_and_harms_nothing(session: tuple[Caller, str], query: str) -> None:
    good(session[0].get(f"/sessions?{query}"))


@pytest.mark.parametrize("erase", ["talvez", "2", "%00", "TRUEE"])
def test_a_removal_that_is_not_clear_removes_nothing(caller: Inside, erase: str) -> None:
    problem(caller.call("DELETE", f"/sessions/x?erase={erase}"), 400, "invalid_request")


BAD_CHANGES: list[Any] = [
    {"title": 1}, {"title": "x" * 201}, {"title": "nul\0"}, {"title": "\ud800"}, {"title": ["x"]}, {"system_prompt": 1},
    {"system_prompt": "nul\0"}, {"system_prompt": "x" * 100_001}, {"metadata": []}, {"metadata": "x"}, {"metadata": 1},
    {"metadata": {"a": "\0"}}, {"metadata": {"\ud800": 1}}, {"metadata": {"a": "x" * 20_000}},
    {"title": "boa", "metadata": 1}, [], "x", 1, None,
]  # fmt: skip


@pytest.mark.parametrize("change", BAD_CHANGES, ids=[f"{n}-{ascii(c)[:16]}" for n, c in enumerate(BAD_CHANGES)])
def test_a_change_with_something_wrong_changes_nothing(caller: Inside, change: Any) -> None:
    headers = {"Content-Type": "application/json"}
    response = caller.call("PATCH", "/sessions/x", content=json.dumps(change).encode(), headers=headers)
    problem(response, 400, "invalid_request")


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity", "1" + "0" * 5000])
def test_a_change_with_a_number_that_is_none_changes_nothing(caller: Inside, number: str) -> None:
    body = f'{{"metadata": {{"a": [{number}]}}}}'.encode()
    headers = {"Content-Type": "application/json"}
    problem(caller.call("PATCH", "/sessions/x", content=body, headers=headers), 400, "invalid_request")


def test_strange_numbers_in_metadata_come_back(service: Service) -> None:
    caller, session_id = Caller(service), new_id()
    caller.chat("Oi", session_id=session_id)
    metadata = {"grande": 10**40, "pequeno": 1e-300, "negativo": -0.5, "máximo": 2**64, "um": 1.0}
    good(caller.call("PATCH", f"/sessions/{session_id}", json={"metadata": metadata}))
    assert caller.session(session_id)["metadata"] == metadata


# Headers


@pytest.mark.parametrize("path, method", [("/sessions", "GET"), ("/chat", "POST")])
@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png", "x"])
def test_an_answer_in_another_format_is_406(caller: Inside, path: str, method: str, accept: str) -> None:
    body = {"json": {"message": "Oi"}} if method == "POST" else {}
    problem(caller.call(method, path, headers={"Accept": accept}, **body), 406, "not_acceptable")


@pytest.mark.parametrize("language", ["en", "en-US,en;q=0.9", "pt-BR", "fr", "xx-YY;q=nada", "*", "x" * 500])
def test_the_language_changes_nothing_but_the_words(caller: Inside, language: str) -> None:
    error = problem(
        caller.call("POST", "/chat", json={}, headers={"Accept-Language": language}), 400, "invalid_request"
    )
    assert error.keys() == {"detail", "code", "request_id", "errors"}


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "[::1", "x" * 300]
)
@pytest.mark.parametrize("path", ["/chat", "/sessions", "/docs", "/nada"])
def test_an_unknown_host_is_refused(outsider: Caller, host: str, path: str) -> None:
    method = "POST" if path == "/chat" else "GET"
    problem(outsider.call(method, path, headers={"Host": host}), 400, "invalid_request")


# The first line and the headers themselves


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /sessions/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(200)) + b"\r\n",
        b"GET /sessions HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"nada\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /sessions HTTP/1.1\r\n\r\n",
    ],
    ids=[
        "long line", "long header", "many headers", "version", "noise", "tls", "negative", "two lengths", "both",
        "chunk", "no host",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_without_a_page(front: Service, upstream: Upstream, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 501", b"HTTP/1.1 505")), answer[
        :200
    ]
    assert b"<html" not in answer.lower()
    assert b"Traceback" not in answer
    good(Caller(front).get("/health"))
    assert upstream.count == 0
