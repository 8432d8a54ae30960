"""Turns, streams, limits and addresses through nginx and Caddy."""

import re
import threading
from typing import Any

import httpx
import pytest
import yaml

from testing import scenarios
from testing.client import events, good, new_id, wait_until
from testing.environment import ROOT
from testing.proxies import DEPLOY, Proxy
from testing.service import Service
from testing.upstream import Upstream
from tests.proxy.conftest import PRODUCTION, Start, Through
from tests.support.services import Services

GZIP = {"Accept-Encoding": "gzip"}
BEGIN, REST = "Era uma vez ", "um banco."
CHUNKED = [b'{"message": "', b"a" * 1_100_000, b'"}']


def arrives_in_pieces(caller: Through, upstream: Upstream, path: str = "/chat", **headers: str) -> str:
    """The whole stream, of which the first piece has come before the model has said more."""
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest(REST), after=BEGIN))
    begin: dict[str, Any] = {"json": {"message": "Conte", "stream": True}, "headers": headers, "timeout": 15}
    seen = ""
    try:
        with caller.connection() as client, client.stream("POST", path, **begin) as answer:
            for text in answer.iter_text():
                seen += text
                if BEGIN in seen:
                    gate.set()
    finally:
        gate.set()
    return seen


def test_turns_go_through_as_they_are(front: Proxy) -> None:
    caller = Through(front.url)
    session = new_id()
    assert caller.chat("Olá, à vista?", session_id=session)["response"] == "Eco (1): Olá, à vista?"
    assert good(caller.post("/api/message", message="E?", session_id=session))["response"].endswith("): E?")
    assert caller.texts(session)[::2] == ["Olá, à vista?", "E?"]


def test_a_stream_comes_piece_by_piece_and_can_be_taken_up_again(front: Proxy, upstream: Upstream) -> None:
    caller = Through(front.url)
    *_, done = events(arrives_in_pieces(caller, upstream))
    assert done.data["response"] == BEGIN + REST
    again = events(caller.get(f"/turns/{done.data['turn_id']}/events", after="13").text)
    assert "".join(event.data["text"] for event in again if event.name == "delta") == (BEGIN + REST)[13:]


@pytest.mark.parametrize(
    ("kind", "compressing"),
    [("nginx", ("location / {", "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1; location / {")),
     ("caddy", ("\t# No request_body", "\tencode gzip\n\t# No request_body"))],
)  # fmt: skip
def test_a_stream_comes_piece_by_piece_where_all_is_compressed(
    start: Start, service: Service, upstream: Upstream, kind: str, compressing: tuple[str, str]
) -> None:
    caller = Through(start(kind, service, compressing).url)
    assert caller.call("GET", "/schema", headers=GZIP).headers["content-encoding"] == "gzip"
    for wanted in (GZIP, {"Accept-Encoding": "identity"}):
        file = caller.call("GET", "/static/chat/main.js", headers=wanted)
        assert file.content == (ROOT / "static" / "chat" / "main.js").read_bytes()
        has_it = wanted | {"If-None-Match": file.headers["etag"]}
        assert caller.call("GET", "/static/chat/main.js", headers=has_it).status_code == 304
    *_, done = events(arrives_in_pieces(caller, upstream, **GZIP))
    assert done.data["response"] == BEGIN + REST


@pytest.mark.parametrize("body", [b'{"message": "' + b"a" * 1_100_000 + b'"}', CHUNKED], ids=["whole", "chunked"])
def test_what_is_too_long_is_told_as_such_and_harms_no_later_message(front: Proxy, body: bytes | list[bytes]) -> None:
    with Through(front.url).connection() as client:
        for _ in range(3):
            assert client.post("/chat", content=body).status_code == 413
            assert client.post("/chat", json={"message": "Oi"}).status_code == 200


def test_a_message_of_the_greatest_length_goes_through_and_is_no_file(front: Proxy) -> None:
    caller = Through(front.url)
    text = "ç" * 100_000
    assert caller.chat(text)["response"].endswith(text)
    assert "temporary file" not in front.log()


def test_a_big_export_is_the_same_as_without_a_proxy_and_is_no_file(front: Proxy, service: Service) -> None:
    caller, session = Through(front.url), new_id()
    for _ in range(8):
        caller.chat("á" * 99_000, session_id=session)
    for kind in ("jsonl", "csv"):
        path = f"/sessions/{session}/export?format={kind}"
        direct = httpx.get(service.url + path, headers=caller.headers, trust_env=False)
        through = caller.get(path)
        assert (through.status_code, len(through.content)) == (200, len(direct.content))
        assert len(through.content) > 3_000_000
    assert "temporary file" not in front.log()


def test_the_callers_address_is_the_one_that_the_proxy_sees(front: Proxy, service: Service) -> None:
    caller, session = Through(front.url, local_address="127.0.0.2"), new_id()
    caller.chat("Oi", session_id=session)
    invented = {"X-Forwarded-For": "192.0.2.66", "X-Real-IP": "192.0.2.66", "Forwarded": "for=192.0.2.66"}
    assert caller.call("DELETE", f"/sessions/{session}", headers=invented).status_code == 200
    query = "SELECT address FROM access_auditentry WHERE target = %s"
    wait_until(lambda: service.sql(query, session) == [("127.0.0.2",)])


def test_addresses_and_cookies_are_those_of_https(front: Proxy) -> None:
    caller = Through(front.url)
    for _ in range(2):
        caller.chat("Oi")
    assert good(caller.get("/sessions", limit=1))["next"].startswith(f"{front.url}/sessions?")
    login = caller.get("/admin/login/")
    assert (login.status_code, "Secure" in login.headers["set-cookie"]) == (200, True)
    assert login.headers["set-cookie"].startswith("__Host-")
    assert login.headers["strict-transport-security"].startswith("max-age=")
    for path in ("/admin", "/admin/"):
        assert caller.get(path).headers["location"].startswith("/admin/")
    for path in ("/", "/docs", "/static/chat/main.js", "/health"):
        assert caller.get(path).status_code == 200


def test_a_form_of_the_admin_is_taken(front: Proxy) -> None:
    """Its token, and its Referer and Origin, which name the proxy's address."""
    with Through(front.url).connection() as client:
        page = client.get("/admin/login/")
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token
        fields = {"username": "ninguem", "password": "x", "csrfmiddlewaretoken": token[1]}
        sent = {"Referer": f"{front.url}/admin/login/", "Origin": front.url}
        assert client.post("/admin/login/", data=fields, headers=sent).status_code == 200
        evil = {"Referer": "https://evil.example/", "Origin": "https://evil.example"}
        assert client.post("/admin/login/", data=fields, headers=evil).status_code == 403


def test_nginx_leads_plain_http_to_https_with_its_body(start: Start, service: Service) -> None:
    front = start("nginx", service)
    answer = httpx.post(f"http://localhost:{front.plain_port}/chat?x=1", json={"message": "Oi"}, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost/chat?x=1")


def test_nginx_can_close_the_admin(start: Start, service: Service) -> None:
    caller = Through(start("nginx", service, ("#location /admin", "location /admin")).url)
    for path in ("/admin/", "/admin", "/admin/login/", "//admin/", "/%61dmin/", "/x/../admin/", "/./admin/"):
        assert caller.call("GET", "/", extensions={"target": path.encode()}).status_code == 403, path
    assert caller.get("/docs").status_code == 200
    caller.chat("Oi")


def test_a_message_is_not_sent_to_another_server_when_the_first_one_dies(
    start: Start, services: Services, upstream: Upstream
) -> None:
    with services.pair(**PRODUCTION) as [first, second]:
        both = (
            f"server 127.0.0.1:{first.port};",
            f"server 127.0.0.1:{first.port}; server 127.0.0.1:{second.port} backup;",
        )
        caller = Through(start("nginx", first, both).url)
        upstream.script(scenarios.gated(threading.Event(), scenarios.rest()))
        asked = threading.Thread(target=caller.post, args=("/chat",), kwargs={"message": "Oi"})
        asked.start()
        wait_until(lambda: upstream.count == 1)
        first.kill()
        asked.join(20)
        assert not asked.is_alive()
        assert upstream.count == 1
        assert caller.chat("E agora?")["response"] == "Eco (1): E agora?"


def test_traefik_s_file_can_be_read() -> None:

    assert yaml.safe_load((DEPLOY / "traefik.yml").read_text())["http"]["routers"]
