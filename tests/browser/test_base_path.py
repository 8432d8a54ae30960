"""The chat page under a path of its host."""

from playwright.sync_api import Page, expect

from testing.client import Caller
from testing.upstream import Upstream
from tests.support.chat_page import Chat
from tests.support.services import Services

SECOND_PAGE = """async (key) => {
    const { Api } = await import("/bot/static/chat/api.js");
    const api = new Api({ address: "/bot", key: () => key });
    return (await api.sessions({ next: (await api.sessions({ limit: 1 })).next })).data.length;
}"""
KEY = "sk-uma-chave"
KEPT = "[localStorage, sessionStorage].flatMap((storage) => Object.keys(storage))"


def test_the_page_works_under_the_path_and_keeps_what_it_keeps(
    services: Services, upstream: Upstream, page: Page
) -> None:
    place, asked = services.shared(BASE_PATH="/bot"), []
    page.on("request", lambda request: asked.append(request.url.removeprefix(place.url)))
    chat = Chat(page, Caller(place, key=""), url=f"{place.url}/bot").open()
    chat.part("use-key").click()
    chat.part("signin-key").fill(KEY)
    chat.part("signin-remember").check()
    chat.part("signin-submit").click()
    expect(chat.part("sign-out")).to_be_visible()
    chat.is_ready()
    for text in ("Oi", "E depois?"):
        chat.say(text)
        expect(chat.reply_text).to_contain_text(text)
        expect(chat.reply).to_have_attribute("data-status", "completed")
    chat.part("theme").click()
    chat.part("composer").fill("Um rascunho")
    assert page.evaluate(KEPT)
    assert [name for name in page.evaluate(KEPT) if not name.startswith("bancobot/bot.")] == []
    theme = page.evaluate("document.documentElement.dataset.theme")
    chat.reload()
    expect(chat.messages("assistant")).to_have_count(2)
    expect(chat.row(chat.session_id)).to_contain_text("Oi")
    expect(chat.part("sign-out")).to_be_visible()
    expect(chat.part("composer")).to_have_value("Um rascunho")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    Caller(place, key=KEY).chat("Outra conversa")
    assert page.evaluate(SECOND_PAGE, KEY) == 1
    assert [address for address in asked if not address.startswith("/bot/")] == []
