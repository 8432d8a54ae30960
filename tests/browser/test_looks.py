"""The chat page for everybody: languages, keyboard, phones, dark and light; axe-core finds nothing serious."""

import re

import pytest
from playwright.sync_api import Page, expect

from testing import scenarios
from testing.client import Caller, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import PHONE, Tabs, barriers
from tests.support.chat_page import Chat

RICH = f"""Veja **a tabela** e [o site](https://banco.example):

| tarifa | valor | prazo | observação sem fim que não acaba nunca mais |
|---|---|---|---|
| saque | R$ 6,50 | hoje | {"uma célula bem larga " * 4} |

```python
{"x" * 200}
```

1. um
2. dois

> citação {"semespaços" * 30}
"""


def rich_conversation(service: Service, upstream: Upstream) -> tuple[Caller, str]:
    """A conversation with every element of Markdown, an error and an older version."""
    caller, session_id = Caller(service), new_id()
    upstream.reply(RICH)
    turn = caller.chat("Quais são as tarifas?", session_id=session_id)["turn_id"]
    caller.chat("Uma versão antiga", session_id=session_id)
    caller.chat("W" * 300, session_id=session_id, after_turn=turn)
    return caller, session_id


def faults_with_dialogs(chat: Chat, session_id: str) -> dict[str, list[str]]:
    """axe's faults of the page, with each menu and dialog open, and with what a search finds."""
    found = {"page": barriers(chat.page)}
    chat.part("export").locator("summary").click()
    expect(chat.part("export").get_by_role("button").first).to_be_visible()
    found["export"] = barriers(chat.page)
    chat.page.keyboard.press("Escape")
    chat.part("model-picker").click()
    expect(chat.part("model-option").first).to_be_visible()
    found["models"] = barriers(chat.page)
    chat.part("models-close").click()
    if chat.part("menu").is_visible():
        chat.part("menu").click()
        expect(chat.row(session_id)).to_be_in_viewport()
        found["drawer"] = barriers(chat.page)
    chat.part("search").fill("tarifas")
    expect(chat.part("conversation")).to_have_count(1)
    found["search"] = barriers(chat.page)
    chat.part("search").fill("")
    for name, closer in {"rename": "rename-cancel", "delete": "delete-cancel"}.items():
        chat.row_button(session_id, name).click()
        expect(chat.part(closer)).to_be_visible()
        found[name] = barriers(chat.page)
        chat.part(closer).click()
    return {place: faults for place, faults in found.items() if faults}


def sideways(page: Page) -> int:
    """The pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize(
    ("look", "options"),
    [
        ("light", {}),
        ("dark", {"color_scheme": "dark"}),
        ("dark phone", PHONE | {"color_scheme": "dark"}),
    ],
)
def test_axe_finds_nothing_serious_on_the_page(
    service: Service, upstream: Upstream, tabs: Tabs, look: str, options: dict[str, object]
) -> None:
    caller, session_id = rich_conversation(service, upstream)
    chat = Chat(tabs.open(reduced_motion="reduce", **options), caller).open(session_id)
    expect(chat.messages("assistant")).to_have_count(2)
    chat.part("older-versions").locator("summary").click()
    chat.messages("user").first.get_by_test_id("edit").click()
    chat.reply.get_by_test_id("feedback-up").click()
    expect(chat.part("feedback-comment")).to_be_visible()
    assert faults_with_dialogs(chat, session_id) == {}


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_at_the_sign_in_and_at_the_start(
    service: Service, keyed: Service, tabs: Tabs, color_scheme: str
) -> None:
    start = Chat(tabs.open(color_scheme=color_scheme), Caller(service)).open()
    assert barriers(start.page) == []
    page = tabs.open(color_scheme=color_scheme)
    page.goto(keyed.url)
    expect(page.get_by_test_id("signin")).to_be_visible()
    assert barriers(page) == []


def test_a_phone_shows_everything_without_scrolling_sideways(service: Service, upstream: Upstream, tabs: Tabs) -> None:
    caller, session_id = rich_conversation(service, upstream)
    chat = Chat(tabs.open(**PHONE), caller).open(session_id)
    expect(chat.messages("assistant")).to_have_count(2)
    assert sideways(chat.page) == 0
    expect(chat.part("send")).to_be_in_viewport(ratio=1)
    expect(chat.part("conversation").first).not_to_be_in_viewport()
    chat.part("menu").tap()
    expect(chat.part("conversation").first).to_be_in_viewport()
    chat.part("new-conversation").tap()
    expect(chat.part("conversation").first).not_to_be_in_viewport()
    chat.part("composer").fill("Oi")
    chat.part("send").tap()
    chat.hears("Eco (1): Oi")
    assert sideways(chat.page) == 0


@pytest.mark.parametrize(
    ("locale", "language", "label"),
    [("pt-BR", "pt-br", "Enviar"), ("en-US", "en", "Send"), ("fr-FR", "pt-br", "Enviar")],
)
def test_the_page_speaks_the_readers_language(
    service: Service, tabs: Tabs, locale: str, language: str, label: str
) -> None:
    chat = Chat(tabs.open(locale=locale), Caller(service)).open()
    expect(chat.page.locator("html")).to_have_attribute("lang", language)
    expect(chat.page.get_by_role("button", name=label, exact=True)).to_be_visible()


def test_the_keyboard_is_enough(chat: Chat, upstream: Upstream) -> None:
    keys = chat.open().page.keyboard
    keys.type("uma linha")
    keys.press("Shift+Enter")
    keys.type("outra")
    keys.press("Enter")
    chat.hears("Eco (1): uma linha outra")  # with a line break between them
    assert upstream.requests[0].messages[-1]["content"] == "uma linha\noutra"
    chat.part("model-picker").focus()
    keys.press("Enter")
    expect(chat.part("models-dialog")).to_be_visible()
    keys.press("Escape")
    expect(chat.part("models-dialog")).to_be_hidden()
    expect(chat.part("model-picker")).to_be_focused()
    chat.part("conversation-rename").focus()
    keys.press("Enter")
    keys.type("Outro nome")
    keys.press("Enter")
    expect(chat.part("title")).to_have_text("Outro nome")
    expect(chat.part("conversation-rename")).to_be_focused()


def test_the_way_to_the_message_is_one_key_long(service: Service, tabs: Tabs) -> None:
    caller, session_id = Caller(service), new_id()
    caller.chat("Oi", session_id=session_id)
    chat = Chat(tabs.open(viewport={"width": 700, "height": 900}), caller).open(session_id)
    chat.page.keyboard.press("Tab")
    expect(chat.page.locator(".skip")).to_be_focused()
    chat.page.keyboard.press("Enter")
    expect(chat.part("composer")).to_be_focused()
    chat.page.keyboard.type("E?")
    chat.page.keyboard.press("Enter")
    chat.hears("Eco (3): E?")


def test_escape_stops_a_reply(chat: Chat, upstream: Upstream) -> None:
    upstream.script(scenarios.hang(after="O começo "))
    chat.open().say("Conte")
    expect(chat.reply_text).to_have_text("O começo")
    chat.page.keyboard.press("Escape")
    chat.hears("O começo", "cancelled")


def luminance(page: Page) -> int:
    """The page's brightness, from 0 to 765."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3]))


def test_it_is_dark_or_light_as_the_reader_likes_it(service: Service, tabs: Tabs) -> None:
    chat = Chat(tabs.open(color_scheme="dark"), Caller(service)).open()
    assert luminance(chat.page) < 200
    chat.part("theme").click()
    assert luminance(chat.page) > 600
    chat.reload()
    assert luminance(chat.page) > 600
