"""What a first visit costs on the wire, as the browser itself counts it: headers and bodies of all answers."""

from typing import Any

from playwright.sync_api import Page, expect

from testing.upstream import Upstream
from tests.support.browser import Watch
from tests.support.chat_page import Chat

MAX_ON_THE_WIRE = 70_000  # bytes


class Wire:
    """Bytes by address, in this page from now on."""

    def __init__(self, page: Page) -> None:
        self._names: dict[str, str] = {}
        self.bytes: dict[str, int] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", self._asked)
        session.on("Network.loadingFinished", self._came)
        session.send("Network.enable")

    def _asked(self, event: dict[str, Any]) -> None:
        self._names[event["requestId"]] = event["request"]["url"]

    def _came(self, event: dict[str, Any]) -> None:
        name = self._names[event["requestId"]]
        self.bytes[name] = self.bytes.get(name, 0) + int(event["encodedDataLength"])

    def has(self, part: str) -> bool:
        return any(part in name for name in self.bytes)


def test_a_first_visit_costs_little_and_markdown_comes_when_one_writes(chat: Chat, upstream: Upstream) -> None:
    wire = Wire(chat.page)
    chat.open()
    chat.page.wait_for_load_state("networkidle")
    assert 20_000 < sum(wire.bytes.values()) <= MAX_ON_THE_WIRE, wire.bytes
    assert wire.has("/chat/main.js") and wire.has("/chat/chat.css") and wire.has("/models")
    assert not wire.has("/vendor/")
    upstream.reply("Faça **assim**.")
    chat.asks("Como?", "Faça assim.")
    expect(chat.reply_text.locator("strong")).to_have_text("assim")
    assert wire.has("/vendor/marked/") and wire.has("/vendor/dompurify/")


def test_a_reply_is_text_where_markdown_cannot_be_had(chat: Chat, upstream: Upstream, watch: Watch) -> None:
    watch.expects("net::ERR_FAILED")
    chat.page.route("**/vendor/marked/**", lambda route: route.abort())
    chat.open()
    upstream.reply("Faça **assim** <b>já</b>.")
    chat.asks("Como?", "Faça **assim** <b>já</b>.")
    expect(chat.reply_text.locator("strong, b")).to_have_count(0)
    chat.page.unroute("**/vendor/marked/**")
    chat.reload()
    expect(chat.reply_text.locator("strong")).to_have_text("assim")
