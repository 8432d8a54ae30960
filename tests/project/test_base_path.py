"""The service under a path of its host, behind proxies that take the path away and behind those that leave it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.environment import Environment
from bancobot_project.configuration.hosts import OURS
from testing.client import NO_TLS, PATIENCE, Caller, good, new_id, problem, wait_until
from testing.service import Service
from tests.support.endpoints import addresses
from tests.support.operators import superuser
from tests.support.services import Services

PASSWORD = "uma senha comprida 7"
SITE = "https://bank.example"
BY_HTTPS = {"Host": "bank.example", "X-Forwarded-Proto": "https", "Accept-Language": "en"}


@pytest.fixture
def place(fronts: Services) -> Service:
    """One service for all tests of this module."""
    hosts = "127.0.0.1,bank.example"
    return fronts.shared(BASE_PATH="/bot", HTTPS="true", TRUSTED_PROXIES="127.0.0.1", ALLOWED_HOSTS=hosts)


@pytest.fixture
def browser(place: Service) -> Iterator[httpx.Client]:
    """By HTTPS through a proxy; it follows no redirect."""
    with httpx.Client(base_url=place.url, headers=BY_HTTPS, trust_env=False, verify=NO_TLS, timeout=PATIENCE) as client:
        yield client


def asked(place: Service, target: str) -> tuple[int, str]:
    """Status and first bytes of the answer to exactly this target, which an HTTP client would put right."""
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=PATIENCE) as client:
        request = httpx.Request("GET", place.url, extensions={"target": target.encode()})
        answer = client.send(request)
        return answer.status_code, answer.text[:20]


def called(place: Service) -> list[Caller]:
    """A caller whose proxy leaves the path, and one whose proxy takes it away."""
    whole: Any = SimpleNamespace(url=f"{place.url}/bot")
    return [Caller(whole), Caller(place)]


OK, PAGE = '{"status": "ok", "se', "<!DOCTYPE html>\n<htm"


@pytest.mark.parametrize(
    ("target", "status", "begin"),
    [
        ("/health", 200, OK), ("/bot/health", 200, OK), ("/bot/health/", 200, OK), ("//bot//health", 200, OK),
        ("/%62ot/health", 200, OK), ("/bot%2Fhealth", 200, OK), ("/bot/health?x=/bot", 200, OK),
        ("/", 200, PAGE), ("/bot", 200, PAGE), ("/bot/", 200, PAGE), ("/bot?x=1", 200, PAGE),
        ("/favicon.ico", 200, ""), ("/bot/favicon.ico", 200, ""),
        ("/static/chat/main.js", 200, "// The page"), ("/bot/static/chat/main.js", 200, "// The page"),
        ("/botany", 404, ""), ("/bot/botany", 404, ""), ("/botany/health", 404, ""), ("/Bot/health", 404, ""),
        ("/bot/bot/health", 404, ""), ("/bot/bot", 404, ""), ("/bot/..", 404, ""), ("/bot/../health", 404, ""),
        ("/bot/./health", 404, ""), ("/bot;/health", 404, ""), ("/bot%252Fhealth", 404, ""),
        ("/other/bot/health", 404, ""), ("/bot/%2e%2e/health", 404, ""), ("/bot\\health", 404, ""),
        ("/bot/static/../../health", 404, ""),
    ],
)  # fmt: skip
def test_a_path_is_cut_once_and_only_where_it_is_whole(place: Service, target: str, status: int, begin: str) -> None:
    found, text = asked(place, target)
    assert (found, text.startswith(begin)) == (status, True)


def test_a_load_balancer_may_ask_for_health_at_either_path_by_any_name(place: Service) -> None:
    for path in ("/health", "/bot/health"):
        assert Caller(place, Host="10.0.0.7").get(path).status_code == 200


def test_lists_lead_to_their_next_pages_under_the_path(place: Service) -> None:
    for caller in called(place):
        for _ in range(2):
            caller.chat("Oi")
        for path in ("/sessions", "/api/sessions"):
            following = good(caller.call("GET", f"{path}?limit=1", headers=BY_HTTPS))["next"]
            assert following.startswith(f"{SITE}/bot{path}?")
            page = good(Caller(place, caller.key).get(following.removeprefix(SITE)))
            assert len(page.get("data") or page["sessions"]) == 1


def test_streams_exports_and_turns_work_under_the_path(place: Service) -> None:
    for caller in called(place):
        *_, done = caller.stream("/chat", message="Oi", session_id=new_id())
        session, turn = done.data["session_id"], done.data["turn_id"]
        assert caller.get(f"/turns/{turn}/events").text.count("event: done") == 1
        assert session in caller.get(f"/sessions/{session}/export", format="jsonl").text
        assert good(caller.call("DELETE", f"/api/sessions/{session}"))["status"] == "success"


def test_a_message_is_known_again_whether_or_not_the_path_was_taken_away(place: Service) -> None:
    whole, cut = called(place)
    cut.headers = whole.headers | {"Idempotency-Key": new_id()}
    first = cut.chat("Oi", session_id="a")
    whole.headers = cut.headers
    assert whole.chat("Oi", session_id="a")["turn_id"] == first["turn_id"]


def links(html: str) -> set[str]:
    """Every address on a page that is no anchor, no query of the page itself, and no other site's."""
    found = re.findall(r'(?:href|src|action|spec-url|data-source)="([^"#?][^"]*)"', html)
    return {address for address in found if not re.match(r"https?:|data:", address)}


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/admin/login/"])
def test_pages_name_only_addresses_under_the_path(browser: httpx.Client, path: str) -> None:
    for address in (path, f"/bot{path}"):
        page = browser.get(address)
        assert page.status_code == 200
        assert links(page.text)
        assert [link for link in links(page.text) if not link.startswith("/bot/")] == []
        assert [link for link in links(page.text) if browser.get(link).status_code not in (200, 302)] == []


def test_the_document_says_where_the_calls_are(browser: httpx.Client) -> None:
    document = browser.get("/bot/schema").json()
    assert document["servers"] == [{"url": "/bot"}]
    assert "/chat" in document["paths"]
    assert 'url: "/bot/schema"' in browser.get("/bot/docs?script").text


def test_an_operator_logs_in_and_works_under_the_path(place: Service, browser: httpx.Client) -> None:
    superuser(place, "chefe", PASSWORD)
    for begin in ("/bot/admin", "/admin", "/admin/", "/bot/admin/"):
        path = begin
        while not path.endswith("/login/"):
            answer = browser.get(path)
            assert answer.status_code == 302
            assert answer.headers["location"].startswith("/bot/admin/")
            path = urlsplit(answer.headers["location"]).path
    page = browser.get("/bot/admin/login/?next=/bot/admin/")
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token
    fields = {"username": "chefe", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/bot/admin/"}
    sent = {"Referer": f"{SITE}/bot/admin/login/", "Origin": SITE}
    sent["Cookie"] = page.headers["set-cookie"].partition(";")[0]
    answer = browser.post("/bot/admin/login/", data=fields, headers=sent)
    assert (answer.status_code, answer.headers["location"]) == (302, "/bot/admin/")

    cookies = [page.headers["set-cookie"], *answer.headers.get_list("set-cookie")]
    assert {cookie.split("=")[0] for cookie in cookies} == {
        "__Secure-bancobot.bot_csrftoken",
        "__Secure-bancobot.bot_sessionid",
    }
    assert all("Path=/bot;" in f"{cookie};" and "Secure" in cookie for cookie in cookies)

    logged_in = {"Cookie": "; ".join(cookie.partition(";")[0] for cookie in cookies)}
    for path in ("/", "/overview/", "/running/", "/sessions_api/session/", "/access/client/add/", "/password_change/"):
        html = browser.get(f"/bot/admin{path}", headers=logged_in).text
        assert "chefe" in html
        assert [link for link in links(html) if link.startswith("/") and not re.match("/bot(/|$)", link)] == []


def test_the_admin_is_redirected_to_https_and_nothing_else_is(place: Service, browser: httpx.Client) -> None:
    plain = {"X-Forwarded-Proto": "http"}
    for path in ("/admin/", "/bot/admin/"):
        assert browser.get(path, headers=plain).headers["location"] == f"{SITE}/bot/admin/"
    for path in ("/bot/health", "/sessions", "/bot/docs"):
        assert browser.get(path, headers=plain).status_code == 200


def test_who_may_call_and_what_answers_may_do_is_the_same_under_the_path(place: Service) -> None:
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for caller in called(place):
        problem(caller.call("POST", "/chat", json={"message": "Oi"}, headers=foreign), 403, "permission_denied")
        assert "access-control-allow-origin" not in caller.get("/health").headers
        local = {"Origin": "http://localhost:5173"}
        assert caller.call("GET", "/health", headers=local).headers["access-control-allow-origin"] == local["Origin"]
        assert "script-src 'self'" in caller.get("/admin/login/").headers["content-security-policy"]
        assert caller.get("/health").headers["content-security-policy"].startswith("default-src 'none'; frame")


def test_the_log_has_the_path_as_it_was_asked_for(place: Service) -> None:
    before = len(place.log())
    for caller in called(place):
        caller.get("/sessions")
    wait_until(lambda: re.findall(r"path=(\S+)", place.log()[before:]) == ["/bot/sessions", "/sessions"])


# The setting


def base_path(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """What is made of it, and what the log says of that."""
    monkeypatch.setattr(os, "environ", {"BASE_PATH": value, "ENV_FILE": os.devnull})
    env = Environment(tmp_path / ".env")
    return env.base_path("BASE_PATH"), env.notes()


@pytest.mark.parametrize(
    ("value", "path"),
    [("", ""), ("/bot", "/bot"), ("/bot/", "/bot"), ("bot", "/bot"), ("bot/", "/bot"), ("/", ""), ("/bot//", "/bot"),
     ("/a/b_2/C-3", "/a/b_2/C-3"), ("a/chat", "/a/chat"), ("/chatbot", "/chatbot"), ('"/bot"', "/bot")],
)  # fmt: skip
def test_a_path_is_put_right(value: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes = base_path(value, tmp_path, monkeypatch)
    assert found == path
    assert bool(notes) == (value.strip('"') != path)


@pytest.mark.parametrize(
    "value",
    ["https://bank.example/bot", "//bank.example", "//bot", "/bot/../x", "..", "/v1.2", ".", "/a//b", "/a b", "/bot?x",
     "/bot#x", "/b%6ft", "/ção", "/bot\n", "/bot\\x", "C:/Program Files/Git/bot", "/{bot}", "$BOT", "/bot;x", "~ana",
     "/" + "x" * 100, *(f"/{name}" for name in OURS), "chat/", "/admin/bot"],
)  # fmt: skip
def test_what_is_no_path_stops_the_start(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if value == "/bot\n":
        value = "/bot\nx"
    with pytest.raises(ImproperlyConfigured, match=r"^BASE_PATH must be a path such as /bot"):
        base_path(value, tmp_path, monkeypatch)


def test_no_path_begins_as_an_address_of_the_service() -> None:
    firsts = {path.strip("/").partition("/")[0] for path, _ in addresses()} - {""}
    assert {*firsts, "admin", "static"} == {*OURS}
