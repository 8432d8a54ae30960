"""Files that are the same for everybody are compressed, in the form that the reader wants; nothing else ever is."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from testing.client import Caller, new_id
from testing.environment import ROOT
from testing.service import Service

SCRIPT = "/static/chat/main.js"
PLAIN = (ROOT / "static" / "chat" / "main.js").read_bytes()
PACKED = [
    "gzip", "gzip, deflate, br, zstd", "GZIP", "x-gzip", "br, gzip;q=0.1", "*", "br;q=1.0,*;q=0.5", "gzip;q=1.000",
    "identity;q=0.5, gzip", "identity;q=0, *", "gzip ; Q=0.8 , br", "deflate,,gzip", "gzip;q=0.5, identity;q=0.5",
]  # fmt: skip
NOT_PACKED = [
    "", "identity", "br", "deflate, br, zstd", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;q=0, *", "gzipped", ",",
    "not-gzip", "identity, gzip;q=0.5", "identity;q=1, *;q=0", "gzip;q=2", "gzip;q=-1", "gzip;q=nan", "gzip;q=", "\xff",
    "gzip;q=0.0001", "gzip;level=9", "gzip gzip", "gzip=1", "gzip;q=0;q=1", ";q=1", "*;q=0, identity;q=0",
    "gzip;q=\xb2",
]  # fmt: skip


@pytest.fixture
def client(front: Service) -> Iterator[httpx.Client]:
    with Caller(front, key="").connection() as client:
        yield client


def asked(client: httpx.Client, path: str, method: str = "GET", **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, and its body as it was on the wire. Without an Accept-Encoding unless one is named."""
    request = client.build_request(method, path)
    request.headers.pop("accept-encoding")
    given = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    request.headers = httpx.Headers([*request.headers.raw, *given])
    answer = client.send(request, stream=True)
    body = b"".join(answer.iter_raw())
    answer.close()
    return answer, body


@pytest.mark.parametrize("wanted", [PACKED, NOT_PACKED], ids=["packed", "plain"])
def test_a_file_has_the_form_that_the_reader_wants(client: httpx.Client, wanted: list[str]) -> None:
    forms: dict[str, tuple[str | None, int]] = {}
    for header in wanted:
        answer, body = asked(client, SCRIPT, Accept_Encoding=header)
        coding = answer.headers.get("content-encoding")
        assert (gzip.decompress(body) if coding else body) == PLAIN
        assert answer.headers["content-length"] == str(len(body))
        assert "Accept-Encoding" in answer.headers["vary"]
        forms[header] = coding, answer.status_code
    assert forms == dict.fromkeys(wanted, ("gzip" if wanted is PACKED else None, 200))


def test_who_says_nothing_of_codings_gets_the_plain_file(client: httpx.Client) -> None:
    answer, body = asked(client, SCRIPT)
    assert (body, answer.headers.get("content-encoding")) == (PLAIN, None)
    assert answer.headers["content-type"] == 'text/javascript; charset="utf-8"'
    assert answer.headers["cache-control"] == "max-age=60, public"


def test_each_form_has_a_tag_of_its_own_and_is_not_sent_twice(client: httpx.Client) -> None:
    plain, packed = asked(client, SCRIPT)[0].headers, asked(client, SCRIPT, Accept_Encoding="gzip")[0].headers
    assert plain["etag"] != packed["etag"]
    mine, other = packed["etag"], plain["etag"]
    cases = {
        mine: 304, f"W/{mine}": 304, f'"x", {mine}': 304, "*": 304, f"{other}, {mine}": 304,
        other: 200, '"x"': 200,
    }  # fmt: skip
    for tags, status in cases.items():
        answer, body = asked(client, SCRIPT, Accept_Encoding="gzip", If_None_Match=tags)
        assert (tags, answer.status_code) == (tags, status)
        assert answer.headers["etag"] == mine
        assert "Accept-Encoding" in answer.headers["vary"]
        if status == 304:
            assert (body, answer.headers.get("content-encoding")) == (b"", None)
    for moment in ("Fri, 01 Jan 2100 00:00:00 GMT", "gestern"):
        assert asked(client, SCRIPT, If_Modified_Since=moment)[0].status_code == 200  # no file has a date


def test_a_head_says_what_a_get_would(client: httpx.Client) -> None:
    for wanted in ("gzip", "identity"):
        get, body = asked(client, SCRIPT, Accept_Encoding=wanted)
        head, nothing = asked(client, SCRIPT, "HEAD", Accept_Encoding=wanted)
        assert (head.status_code, nothing, head.headers["content-length"]) == (200, b"", str(len(body)))
        kept = ("etag", "content-encoding", "content-type", "vary", "cache-control")
        assert [head.headers.get(name) for name in kept] == [get.headers.get(name) for name in kept]


@pytest.mark.parametrize(
    "part", ["bytes=0-9", "bytes=-1", "bytes=5-2", "bytes=99999999-", "bytes=0-1,3-4", "lines=1-2", "x"]
)
def test_who_asks_for_a_range_gets_the_whole_file(client: httpx.Client, part: str) -> None:
    for wanted in ("gzip", "identity"):
        answer, body = asked(client, SCRIPT, Accept_Encoding=wanted, Range=part, If_Range='"x"')
        assert (answer.status_code, answer.headers.get("content-range")) == (200, None)
        assert (gzip.decompress(body) if wanted == "gzip" else body) == PLAIN


def test_files_are_only_read(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = client.request(method, SCRIPT)
        assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (
            405,
            "method_not_allowed",
            "GET, HEAD",
        )


def test_the_files_of_the_admin_and_of_the_documentation_too(client: httpx.Client) -> None:
    for path, least in {
        "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js": 3,
        "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css": 5,
        "drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js": 3,
        "admin/css/base.css": 3,
        "chat/icons.svg": 2,
    }.items():
        _, body = asked(client, f"/static/{path}", Accept_Encoding="gzip")
        plain = gzip.decompress(body)
        assert plain == Path(str(finders.find(path))).read_bytes()
        assert len(plain) > least * len(body), path
        assert body[4:8] == bytes(4), "it says when it was compressed"  # then no two servers have the same bytes
        assert asked(client, f"/static/{path}", Accept_Encoding="gzip;q=0.9")[1] == body


def test_what_is_small_or_compressed_already_stays_as_it_is(client: httpx.Client) -> None:
    for path in (
        "/favicon.ico", "/static/bancobot.svg", "/static/chat/theme.js",
        "/static/drf_spectacular_sidecar/swagger-ui-dist/favicon-32x32.png",
        "/static/rest_framework/fonts/fontawesome-webfont.woff",
    ):  # fmt: skip
        answer, _ = asked(client, path, Accept_Encoding="gzip")
        assert (answer.status_code, answer.headers.get("content-encoding")) == (200, None), path
        assert "Accept-Encoding" not in answer.headers["vary"]


def test_the_chat_page_is_compressed_and_is_the_same_for_everybody(client: httpx.Client) -> None:
    for language in ("pt-BR", "en"):
        plain, page = asked(client, "/", Accept_Language=language)
        packed, body = asked(client, "/?q=bb_secret", Accept_Encoding="gzip", Accept_Language=language, Cookie="a=b")
        assert (gzip.decompress(body), packed.headers["content-encoding"]) == (page, "gzip")
        assert packed.headers["content-length"] == str(len(body))
        assert plain.headers["vary"] == packed.headers["vary"]
        assert "Accept-Encoding" in plain.headers["vary"]
        assert asked(client, "/", "HEAD", Accept_Encoding="gzip")[1] == b""


def test_no_answer_of_the_api_and_no_page_of_the_admin_is_compressed(front: Service) -> None:
    caller, session = Caller(front, Accept_Encoding="gzip, *"), new_id()
    caller.chat("Oi " * 2000, session_id=session)
    one = f"/sessions/{session}"
    for path in (
        "/sessions", one, f"{one}/messages", f"{one}/export?format=jsonl", f"{one}/export?format=csv", "/api/sessions",
        "/models", "/health", "/schema", "/docs", "/redoc", "/admin/", "/admin/login/", "/nada", "/static/nada.js",
    ):  # fmt: skip
        answer = caller.get(path)
        assert (answer.status_code < 500, answer.headers.get("content-encoding")) == (True, None), path


def test_no_turn_is_compressed(front: Service) -> None:
    caller = Caller(front, Accept_Encoding="gzip")
    for body in ({}, {"stream": True}):
        for path in ("/chat", "/api/message"):
            answer = caller.post(path, message="Oi " * 2000, **body)
            assert (answer.status_code, answer.headers.get("content-encoding")) == (200, None)
            assert "Accept-Encoding" not in answer.headers.get("vary", "")


def test_what_an_operator_sees_is_not_compressed(operator: Client) -> None:
    for path in ("/admin/", "/admin/sessions_api/session/", "/admin/access/client/add/"):
        answer = operator.get(path, headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.get("Content-Encoding")) == (200, None)
