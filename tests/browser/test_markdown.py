"""Markdown changes nothing that was said: the page shows a reply's text as it was typed, without what was markup."""

import random
import re

from playwright.sync_api import Page, expect

from testing.client import Caller, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import PHONE, Tabs, barriers
from tests.support.chat_page import Chat
from tests.support.texts_as_typed import AS_MEANT, AS_TYPED, PIECES

# What the page makes of each text: as text, and as HTML.
SHOWN = """async (texts) => {
    const { show } = await import("/static/chat/markdown.js");
    return texts.map((text) => {
        const place = document.createElement("div");
        show(place, text);
        for (const button of place.querySelectorAll("[data-testid=copy-code]")) button.remove();
        return [place.textContent, [...place.querySelectorAll(".block")].map((block) => block.innerHTML).join("")];
    });
}"""
# The same text while it is written, and at once.
GROWN = """async (texts) => {
    const { show } = await import("/static/chat/markdown.js");
    return texts.filter((text) => {
        const [grown, whole] = [0, 1].map(() => document.createElement("div"));
        for (let end = 1; end <= text.length; end += 1) show(grown, text.slice(0, end));
        show(whole, text);
        return grown.innerHTML !== whole.innerHTML;
    });
}"""


def without_spaces(html: str) -> str:
    """HTML without what the page adds to links and the lines between blocks."""
    html = re.sub(r' (?:target|rel)="[^"]*"| class=""', "", html)
    return re.sub(r">\n", ">", html)


def letters(text: str) -> str:
    """What no markup is made of; a list's numbers and a table's lines are."""
    return re.sub(r"[\s*_~`#>|\[\]()!\\\-+=:.0-9☐☑]", "", text)


def nonsense(count: int) -> list[str]:
    dice = random.Random(13)
    return ["".join(dice.choices(PIECES, k=dice.randrange(2, 14))) for _ in range(count)]


def test_what_was_said_is_shown_and_what_was_meant_is_markup(service: Service, page: Page) -> None:
    Chat(page, Caller(service)).open()
    shown = page.evaluate(SHOWN, AS_TYPED)
    assert [text.strip("\n") for text, _ in shown] == [re.sub(r"\n+", "\n", text) for text in AS_TYPED]
    pairs = zip(AS_MEANT.values(), page.evaluate(SHOWN, list(AS_MEANT)), strict=True)
    assert [without_spaces(html) for _, (_, html) in pairs] == list(AS_MEANT.values())
    texts = nonsense(600)
    shown = page.evaluate(SHOWN, texts)
    assert [letters(text) for text, _ in shown] == [letters(text) for text in texts]
    assert page.evaluate(GROWN, [*AS_TYPED, *AS_MEANT]) == []


WIDE = f"""Veja:

| {" | ".join(f"coluna{number}" for number in range(12))} |
|{"---|" * 12}
| {" | ".join("valor" for _ in range(14))} |

```python title="x"
{"x" * 200}
```
"""


def test_tables_and_code_scroll_in_their_boxes(service: Service, upstream: Upstream, tabs: Tabs) -> None:
    caller, session_id = Caller(service), new_id()
    upstream.reply(WIDE)
    caller.chat("  Quais?\n\t*todas*", session_id=session_id)
    chat = Chat(tabs.open(**PHONE, permissions=["clipboard-read", "clipboard-write"]), caller).open(session_id)
    expect(chat.reply).to_have_attribute("data-status", "completed")
    for box in (chat.reply.locator(".table"), chat.reply.locator("pre")):
        expect(box).to_have_attribute("tabindex", "0")
        expect(box).to_have_attribute("aria-label", re.compile("Tabela|python"))
        assert box.evaluate("box => box.scrollWidth > box.clientWidth && box.clientWidth < 390")
    assert chat.page.evaluate("document.documentElement.scrollWidth") == 390
    expect(chat.reply.locator("td").last).to_have_text("valor | valor | valor")
    expect(chat.reply.locator(".code-head span")).to_have_text('python title="x"')
    assert chat.question.get_by_test_id("message-text").inner_text() == "  Quais?\n\t*todas*"
    assert barriers(chat.page) == []
    chat.part("copy-reply").click()
    assert chat.page.evaluate("navigator.clipboard.readText()") == WIDE
