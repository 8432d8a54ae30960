"""The service under a path of a proxy's host: with the path left, and with the path taken away."""

import re

import pytest
from playwright.sync_api import Page, expect

from testing.client import Caller, events, good
from testing.proxies import DEPLOY, Proxy
from testing.service import Service
from testing.upstream import Upstream
from tests.proxy.conftest import PRODUCTION, Start, Through
from tests.proxy.test_proxies import BEGIN, REST, arrives_in_pieces
from tests.support.browser import Tabs
from tests.support.chat_page import Chat
from tests.support.operators import superuser
from tests.support.services import Services

PASSWORD = "uma senha comprida 7"
LEAVES = {
    "nginx": [("location / {", "location /bot/ {")],
    "caddy": [("reverse_proxy 127", "reverse_proxy /bot* 127")],
}
TAKES_AWAY = {
    "nginx": [*LEAVES["nginx"], ("proxy_pass http://bancobot;", "proxy_pass http://bancobot/;")],
    "caddy": [("\treverse_proxy", "\turi strip_prefix /bot\n\treverse_proxy")],
}
KEPT = "Object.keys(localStorage).concat(Object.keys(sessionStorage))"


@pytest.fixture
def service(services: Services, upstream: Upstream) -> Service:
    return services.shared(**PRODUCTION, BASE_PATH="/bot")


WAYS = {
    "nginx leaves it": ("nginx", LEAVES),
    "nginx takes it away": ("nginx", TAKES_AWAY),
    "caddy leaves it": ("caddy", LEAVES),
    "caddy takes it away": ("caddy", TAKES_AWAY),
}


@pytest.fixture
def front(request: pytest.FixtureRequest, start: Start, service: Service) -> Proxy:
    kind, ways = WAYS[request.param]
    return start(kind, service, *ways[kind])


@pytest.mark.parametrize("front", WAYS, indirect=True)
def test_everything_is_under_the_path(front: Proxy, upstream: Upstream) -> None:
    caller = Through(f"{front.url}/bot")
    *_, done = events(arrives_in_pieces(caller, upstream))
    assert done.data["response"] == BEGIN + REST
    assert caller.chat("Oi")["response"] == "Eco (1): Oi"
    following = good(caller.get("/sessions", limit=1))["next"]
    assert following.startswith(f"{front.url}/bot/sessions?")
    assert len(good(Through(front.url, caller.key).get(following.removeprefix(front.url)))["data"]) == 1
    for path in ("/", "/docs", "/redoc", "/schema", "/health", "/static/chat/main.js", "/admin/login/"):
        assert caller.get(path).status_code == 200, path
    for path in ("/admin", "/admin/"):
        assert caller.get(path).headers["location"].startswith("/bot/admin/")
    cookies = caller.get("/admin/login/").headers["set-cookie"]
    assert (cookies.startswith("__Secure-bancobot.bot_csrftoken="), "Path=/bot;" in cookies) == (True, True)
    # nginx itself leads /bot to /bot/
    assert caller.get("").headers.get("location", f"{front.url}/bot/").endswith("/bot/")


def in_chromium(tabs: Tabs) -> Page:
    return tabs.open(ignore_https_errors=True)


def log_in(page: Page, admin: str) -> None:
    page.goto(admin)
    page.locator("#id_username").fill("chefe")
    page.locator("#id_password").fill(PASSWORD)
    page.locator("[type=submit]").click()
    expect(page).to_have_url(admin)


@pytest.mark.parametrize("front", ["nginx leaves it", "nginx takes it away"], indirect=True)
def test_people_and_operators_work_under_the_path(front: Proxy, service: Service, tabs: Tabs) -> None:
    page = in_chromium(tabs)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{front.url}/bot/")
    page.get_by_test_id("signin-key").fill("sk-de-quem-conversa")
    page.get_by_test_id("signin-submit").click()
    chat = Chat(page, Caller(service, key=""), url=f"{front.url}/bot").is_ready()
    chat.asks("Oi", "Eco (1): Oi")
    chat.reload()
    chat.hears("Eco (1): Oi")

    page.goto(f"{front.url}/bot/docs")
    expect(page.locator(".servers select")).to_have_value("/bot")  # to try a call there takes a busy machine long

    if not service.sql("SELECT 1 FROM auth_user"):
        superuser(service, "chefe", PASSWORD)
    log_in(page, f"{front.url}/bot/admin/")
    page.goto(f"{front.url}/bot/admin/overview/")
    for path in ("running", "sessions_api/session", "overview"):
        page.locator(f".console-nav a[href$='/admin/{path}/']").click()
        expect(page).to_have_url(f"{front.url}/bot/admin/{path}/")
    assert [address for address in asked if not address.startswith((f"{front.url}/bot", "data:"))] == []


def test_two_services_under_one_host_know_nothing_of_each_other(
    services: Services, upstream: Upstream, start: Start, tabs: Tabs
) -> None:
    """/a leaves its path, /b within it takes its own away; both have the same user, and another conversation."""
    paths = ("/a", "/a/b")
    one, two = (services.shared(**PRODUCTION, BASE_PATH=path) for path in paths)
    site = (DEPLOY / "nginx.conf").read_text()
    found = re.search(r"(?s)    location / \{.*\n    \}\n", site)
    assert found
    block = found[0]
    inner = block.replace("location / {", "location /a/b/ {").replace(
        "http://bancobot;", f"http://127.0.0.1:{two.port}/;"
    )
    front = start("nginx", one, (block, block.replace("location / {", "location /a/ {") + inner))
    page, sessions = in_chromium(tabs), {}
    for place, path in zip((one, two), paths, strict=True):
        superuser(place, "chefe", PASSWORD)
        log_in(page, f"{front.url}{path}/admin/")
        page.goto(f"{front.url}{path}/")
        expect(page.get_by_test_id("signin-key")).to_have_value("")
        page.get_by_test_id("signin-key").fill(f"sk-de-{path}")
        page.get_by_test_id("signin-remember").check()
        page.get_by_test_id("signin-submit").click()
        chat = Chat(page, Caller(place, key=""), url=front.url + path).is_ready()
        chat.asks(f"Oi, {path}", f"Eco (1): Oi, {path}")
        expect(page.get_by_test_id("conversation")).to_have_count(1)
        chat.part("composer").fill(f"Rascunho de {path}")
        sessions[path] = chat.session_id
    for path in paths:
        page.goto(f"{front.url}{path}/admin/overview/")
        expect(page).to_have_url(f"{front.url}{path}/admin/overview/")
        page.goto(f"{front.url}{path}/#/c/{sessions[path]}")
        expect(page.get_by_test_id("composer")).to_have_value(f"Rascunho de {path}")
        expect(page.get_by_test_id("conversation")).to_have_count(1)
        expect(page.get_by_test_id("conversation")).to_contain_text(f"Oi, {path}")
    assert {name.partition(".")[0] for name in page.evaluate(KEPT) if name.startswith("bancobot")} == {
        "bancobot/a",
        "bancobot/a/b",
    }
