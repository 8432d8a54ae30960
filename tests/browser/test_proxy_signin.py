"""The pages behind a proxy with a sign-in of its own, Basic or a single sign-on's cookie, in a real browser."""

import base64
from collections.abc import Iterator
from email.message import Message

import pytest
from playwright.sync_api import Locator, expect

from testing.client import Caller
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import Tabs, Watch
from tests.support.chat_page import Chat
from tests.support.hop import Answer, Hop
from tests.support.keys import Client, made_up_key

LOGIN = {"username": "ana", "password": "senha-do-proxy"}
BASIC = "Basic " + base64.b64encode(":".join(LOGIN.values()).encode()).decode()
ASK = Answer(401, headers=(("WWW-Authenticate", 'Basic realm="x"'),))
API = ("/sessions", "/chat", "/models", "/turns", "/messages")


class Gate:
    """Lets in who is signed in; notes what API requests bring with them."""

    def __init__(self) -> None:
        self.open = True
        self.seen: list[Message] = []

    def basic(self, path: str, headers: Message) -> Answer | None:
        self._note(path, headers)
        return None if self.open and headers["Authorization"] == BASIC else ASK

    def cookie(self, path: str, headers: Message) -> Answer | None:
        """A sign-in that needs no typing: the browser comes back from it with a cookie."""
        self._note(path, headers)
        if path == "/sso":
            return Answer(302, b"", "", (("Set-Cookie", "sso=1; Path=/; HttpOnly"), ("Location", "/")))
        if "sso=1" in (headers["Cookie"] or ""):
            return None
        return Answer(200) if "/export" in path else Answer(302, b"", "", (("Location", "/sso"),))

    def _note(self, path: str, headers: Message) -> None:
        if path.startswith(API):
            self.seen.append(headers)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def behind(service: Service) -> Iterator[Hop]:
    with Hop(service.port) as hop:
        yield hop


@pytest.fixture
def keyed_hop(keyed: Service) -> Iterator[Hop]:
    yield from behind(keyed)


@pytest.fixture
def open_hop(service: Service) -> Iterator[Hop]:
    yield from behind(service)


def notice(chat: Chat) -> Locator:
    return chat.part("gate")


def test_behind_basic_a_reader_with_a_key_opens_lists_streams_and_exports(
    keyed: Service, keyed_hop: Hop, gate: Gate, upstream: Upstream, tabs: Tabs, watch: Watch
) -> None:
    watch.expects("status of 401")
    keyed_hop.gate, key = gate.basic, Client(keyed).key().whole
    page = tabs.open(http_credentials=LOGIN)
    chat = Chat(page, Caller(keyed, ""), keyed_hop.url)
    page.goto(chat.url)
    for tried in (made_up_key(), key):  # a 401 of BancoBot's own does not end the proxy's sign-in
        chat.part("signin-key").fill(tried)
        chat.part("signin-key").press("Enter")
        if tried != key:
            expect(chat.part("signin-error")).not_to_be_empty()
    expect(chat.part("signin")).to_be_hidden()
    chat.asks("Oi", "Eco (1): Oi")
    chat.reload()
    expect(chat.row(chat.session_id)).to_contain_text("Oi")
    chat.part("export").locator("summary").click()
    with page.expect_download() as download:
        chat.part("export-jsonl").click()
    assert "Eco (1): Oi" in download.value.path().read_text()
    expect(notice(chat)).to_be_hidden()
    assert {headers["Authorization"] for headers in gate.seen} <= {BASIC, None}  # none: before the proxy has asked
    assert {headers["X-API-Key"] for headers in gate.seen if headers["Authorization"]} >= {key}

    gate.open = False
    chat.say("Ainda aí?")
    expect(notice(chat)).to_be_visible()
    expect(chat.part("composer")).to_have_value("Ainda aí?")
    gate.open = True
    chat.part("gate-reload").click()
    chat.is_ready()
    expect(notice(chat)).to_be_hidden()
    expect(chat.part("composer")).to_have_value("Ainda aí?")
    chat.part("send").click()
    chat.hears("Eco (3): Ainda aí?")
    assert upstream.count == 2


def test_behind_a_sign_on_with_a_cookie_the_open_page_and_the_docs_work(
    service: Service, open_hop: Hop, gate: Gate, tabs: Tabs, watch: Watch
) -> None:
    open_hop.gate = gate.cookie
    page = tabs.open()
    chat = Chat(page, Caller(service, ""), open_hop.url).open()
    chat.asks("Oi", "Eco (1): Oi")
    assert {headers["X-API-Key"] for headers in gate.seen} == {""}
    assert not any("Authorization" in headers for headers in gate.seen)
    chat.part("composer").fill("Um rascunho")
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the reader comes back to the tab
    expect(notice(chat)).to_be_visible()
    chat.part("export").locator("summary").click()
    chat.part("export-csv").click()  # a page in its place is no file
    expect(chat.part("toast")).to_be_visible()
    chat.part("composer").fill("E agora?")
    chat.part("send").click()
    expect(chat.part("refusal-reason")).not_to_be_empty()
    chat.part("gate-reload").click()
    chat.is_ready()
    expect(notice(chat)).to_be_hidden()
    expect(chat.part("composer")).to_have_value("E agora?")
    chat.part("send").click()
    chat.hears("Eco (3): E agora?")

    page.goto(f"{chat.url}/docs")
    expect(page.locator(".opblock", has_text="/health")).to_be_visible()  # the document came through the proxy
