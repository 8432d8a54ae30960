"""Enter in the page's fields: with input methods, on touch screens, and with other keys."""

from playwright.sync_api import Locator, expect

from testing.client import Caller, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import PHONE, Tabs
from tests.support.chat_page import Chat

# An input method takes a word with Enter, in the order of events of one browser; whether the page saw the key.
COMPOSED = """(field, order) => {
    field.focus();
    const key = (more) => field.dispatchEvent(
        new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...more }));
    const say = (name) => field.dispatchEvent(new CompositionEvent(name, { bubbles: true, data: "に" }));
    say("compositionstart");
    if (order === "chrome") key({ keyCode: 229, isComposing: true });
    if (order === "flag") key({ keyCode: 13, isComposing: true, ctrlKey: true });
    if (order === "silent") key({ keyCode: 13, ctrlKey: true });
    say("compositionend");
    if (order === "safari") { key({ keyCode: 229 }); key({ keyCode: 229, ctrlKey: true }); }
}"""
ORDERS = ("chrome", "flag", "silent", "safari")


def compose(field: Locator) -> None:
    for order in ORDERS:
        field.evaluate(COMPOSED, order)


def test_an_input_method_s_enter_sends_nothing(chat: Chat, keyed: Service, upstream: Upstream, tabs: Tabs) -> None:
    session_id = new_id()
    chat.caller.chat("Oi", session_id=session_id)
    chat.open(session_id)
    expect(chat.reply).to_have_attribute("data-status", "completed")
    chat.part("composer").fill("にほん")
    compose(chat.part("composer"))
    typed = chat.page.context.new_cdp_session(chat.page)
    typed.send("Input.imeSetComposition", {"text": "ご", "selectionStart": 1, "selectionEnd": 1})
    enter = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229}
    typed.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    typed.send("Input.insertText", {"text": "語"})
    expect(chat.part("composer")).to_have_value("にほん語")
    chat.messages("user").get_by_test_id("edit").click()
    chat.part("edit-text").fill("編集")
    compose(chat.part("edit-text"))
    expect(chat.part("edit-text")).to_have_value("編集")
    chat.part("edit-cancel").click()
    chat.reply.get_by_test_id("feedback-up").click()
    chat.part("feedback-comment").fill("良い")
    compose(chat.part("feedback-comment"))
    expect(chat.part("feedback-comment")).to_have_value("良い")
    chat.row_button(session_id, "rename").click()
    compose(chat.part("rename-input"))
    rename = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229, "text": "\r"}
    typed.send("Input.dispatchKeyEvent", {"type": "keyDown", **rename})
    expect(chat.part("rename-dialog")).to_be_visible()
    chat.part("rename-cancel").click()
    assert upstream.count == 1
    assert not chat.caller.messages(session_id)[1]["feedback"]["comment"]
    chat.part("composer").press("Enter")
    chat.hears("Eco (3): にほん語")
    page = tabs.open()
    page.goto(keyed.url)
    page.get_by_test_id("signin-key").fill("bb_x")
    compose(page.get_by_test_id("signin-key"))
    page.context.new_cdp_session(page).send("Input.dispatchKeyEvent", {"type": "keyDown", **rename})
    expect(page.get_by_test_id("signin-error")).to_have_text("")


def test_on_a_touch_screen_enter_makes_a_line(service: Service, upstream: Upstream, tabs: Tabs) -> None:
    chat = Chat(tabs.open(**PHONE), Caller(service)).open()
    composer = chat.part("composer")
    expect(composer).to_have_attribute("enterkeyhint", "enter")
    composer.focus()
    keys = chat.page.keyboard
    for key in ("a", "Enter", "b", "Shift+Enter", "c"):
        keys.press(key)
    expect(composer).to_have_value("a\nb\nc")
    chat.part("send").tap()
    chat.hears("Eco (1): a b c")
    composer.fill("d")
    composer.press("Control+Enter")
    chat.hears("Eco (3): d")
    assert [request.messages[-1]["content"] for request in upstream.requests] == ["a\nb\nc", "d"]


def test_with_a_mouse_enter_sends(chat: Chat, upstream: Upstream) -> None:
    composer = chat.open().part("composer")
    expect(composer).to_have_attribute("enterkeyhint", "send")
    for number, key in enumerate(("Enter", "Control+Enter", "Meta+Enter")):
        composer.fill(key)
        composer.press(key)
        chat.hears(f"Eco ({2 * number + 1}): {key}")
    assert upstream.count == 3
