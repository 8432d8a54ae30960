"""The chat page in a real browser with the real service: conversations, interruptions, edits."""

import re
import threading

from playwright.sync_api import Page, Route, expect

from testing import scenarios
from testing.client import Caller, new_id, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import Watch
from tests.support.chat_page import Chat
from tests.support.lines import BreakingLine


def begun(chat: Chat, upstream: Upstream, text: str, rest: str) -> threading.Event:
    """A running reply, which continues with `rest` when the event is set."""
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest(rest), after=text))
    chat.say("Conte")
    expect(chat.reply_text).to_have_text(text.strip())
    return gate


def said_upstream(upstream: Upstream) -> list[str]:
    """The messages of the newest request, in short."""
    return [f"{message['role']}: {message['content']}" for message in upstream.requests[-1].messages]


def test_a_visitor_has_a_conversation_at_once(service: Service, upstream: Upstream, page: Page) -> None:
    chat = Chat(page, Caller(service, key="")).open()
    upstream.reply("Faça **assim**: `Pix` em [nosso site](https://banco.example/pix).")
    expect(chat.part("composer")).to_be_focused()
    chat.asks("Como faço um Pix?", "Faça assim: Pix em nosso site.")
    expect(chat.reply_text.locator("strong")).to_have_text("assim")
    link = chat.reply_text.locator("a")
    expect(link).to_have_attribute("href", "https://banco.example/pix")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(chat.part("title")).to_have_text("Como faço um Pix?")
    expect(chat.reply.get_by_test_id("usage")).to_contain_text("15 tokens")
    expect(chat.part("composer")).to_have_value("")
    chat.asks("E depois?", "Eco (3): E depois?")
    expect(chat.part("totals")).to_contain_text("50 tokens")
    expect(chat.row(chat.session_id)).to_contain_text("Como faço um Pix?")


def test_a_reload_in_the_middle_of_a_reply_loses_nothing(chat: Chat, upstream: Upstream) -> None:
    chat.open()
    gate = begun(chat, upstream, "Era uma vez 🙂 ", "um banco.")
    chat.reload()
    expect(chat.reply_text).to_have_text("Era uma vez 🙂")
    gate.set()
    chat.hears("Era uma vez 🙂 um banco.")
    assert upstream.count == 1
    assert chat.caller.texts(chat.session_id) == ["Conte", "Era uma vez 🙂 um banco."]


def test_a_reply_goes_on_when_the_line_is_cut(service: Service, upstream: Upstream, page: Page, watch: Watch) -> None:
    watch.expects("net::ERR_")
    with BreakingLine(service.port) as line:
        chat = Chat(page, Caller(service), line.url).open()
        line.cut_after = b"O come\xc3\xa7o "
        gate = begun(chat, upstream, "O começo ", "e o fim.")
        upstream.wait_until(lambda: line.cuts == 1)
        gate.set()
        chat.hears("O começo e o fim.")
    assert upstream.count == 1


def test_a_reply_goes_on_when_the_network_is_back(chat: Chat, upstream: Upstream, watch: Watch) -> None:
    watch.expects("net::ERR_")
    chat.open()
    gate = begun(chat, upstream, "O começo ", "e o fim.")
    chat.page.context.set_offline(True)
    expect(chat.part("toast")).to_be_visible()
    gate.set()
    chat.page.context.set_offline(False)
    chat.hears("O começo e o fim.")
    assert upstream.count == 1


def test_a_message_whose_answer_was_lost_is_not_sent_twice(chat: Chat, upstream: Upstream, watch: Watch) -> None:
    watch.expects("net::ERR_FAILED")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    chat.open()
    chat.page.route("**/chat", lose, times=1)
    chat.asks("Oi", "Eco (1): Oi")
    assert upstream.count == 1


def test_a_message_that_was_on_its_way_arrives_after_a_reload(chat: Chat, upstream: Upstream, watch: Watch) -> None:
    watch.expects("net::ERR_FAILED", "status of 404")  # the conversation does not exist yet
    chat.open()
    chat.page.route("**/chat", lambda route: route.abort())
    chat.say("Oi")
    expect(chat.part("connection")).to_be_visible()
    chat.page.unroute("**/chat")
    chat.reload()
    chat.hears("Eco (1): Oi")
    assert upstream.count == 1


def test_what_a_dead_server_had_written_is_there_and_can_be_tried_again(
    service: Service, chat: Chat, upstream: Upstream, watch: Watch
) -> None:
    watch.expects("net::ERR_")
    chat.open()
    begun(chat, upstream, "O começo ", "")
    wait_until(lambda: chat.caller.texts(chat.session_id)[-1] == "O começo ")
    service.kill()
    service.start()
    expect(chat.reply).to_have_attribute("data-status", "interrupted")
    expect(chat.reply_text).to_have_text("O começo")
    upstream.reply("Tudo de novo.")
    chat.part("error-retry").click()
    chat.hears("Tudo de novo.")
    assert said_upstream(upstream) == ["user: Conte"]


def test_stop_ends_a_reply_and_keeps_what_is_there(chat: Chat, upstream: Upstream) -> None:
    chat.open()
    begun(chat, upstream, "Era uma vez ", "nunca")
    chat.part("stop").click()
    chat.hears("Era uma vez", "cancelled")
    chat.asks("Basta", "Eco (3): Basta")
    assert said_upstream(upstream) == ["user: Conte", "assistant: Era uma vez ", "user: Basta"]
    assert chat.caller.texts(chat.session_id)[1] == "Era uma vez "


def test_try_again_asks_the_same_without_the_old_reply(chat: Chat, upstream: Upstream) -> None:
    upstream.reply("A primeira.")
    upstream.reply("A segunda.")
    chat.open().asks("Oi", "A primeira.")
    chat.reply.get_by_test_id("retry").click()
    chat.hears("A segunda.")
    assert said_upstream(upstream) == ["user: Oi"]
    assert chat.caller.texts(chat.session_id) == ["Oi", "A segunda."]
    chat.reload()
    chat.part("older-versions").locator("summary").click()
    expect(chat.part("older-versions")).to_contain_text("A primeira.")
    chat.hears("A segunda.")


def test_an_edited_message_takes_the_place_of_all_that_came_after(chat: Chat, upstream: Upstream) -> None:
    chat.open()
    for number, text in enumerate(("um", "dois", "três")):
        chat.asks(text, f"Eco ({2 * number + 1}): {text}")
    second = chat.messages("user").nth(1)
    second.get_by_test_id("edit").click()
    second.get_by_test_id("edit-text").fill("outra coisa")
    second.get_by_test_id("edit-send").click()
    expect(chat.messages("assistant")).to_have_count(2)
    chat.hears("Eco (3): outra coisa")
    assert said_upstream(upstream) == ["user: um", "assistant: Eco (1): um", "user: outra coisa"]
    assert chat.caller.texts(chat.session_id) == ["um", "Eco (1): um", "outra coisa", "Eco (3): outra coisa"]
    first = chat.messages("user").first
    first.get_by_test_id("edit").click()
    first.get_by_test_id("edit-text").fill("do começo")
    first.get_by_test_id("edit-send").click()
    expect(chat.messages("assistant")).to_have_count(1)
    chat.hears("Eco (1): do começo")
    assert chat.caller.texts(chat.session_id) == ["do começo", "Eco (1): do começo"]


def test_a_fork_goes_its_own_way(chat: Chat, upstream: Upstream) -> None:
    chat.open()
    chat.asks("um", "Eco (1): um")
    chat.asks("dois", "Eco (3): dois")
    original = chat.session_id
    chat.messages("assistant").first.get_by_test_id("fork").click()
    expect(chat.messages("assistant")).to_have_count(1)
    chat.asks("três", "Eco (3): três")
    assert chat.session_id != original
    assert chat.caller.texts(chat.session_id) == ["um", "Eco (1): um", "três", "Eco (3): três"]
    assert chat.caller.texts(original) == ["um", "Eco (1): um", "dois", "Eco (3): dois"]
    chat.row(original).locator("a").click()
    chat.hears("Eco (3): dois")


def test_feedback_is_kept(chat: Chat) -> None:
    chat.open().asks("Oi", "Eco (1): Oi")
    chat.reply.get_by_test_id("feedback-down").click()
    chat.reply.get_by_test_id("feedback-comment").fill("Não ajudou.")
    chat.reply.get_by_test_id("feedback-send").click()
    expect(chat.part("feedback-comment")).to_have_count(0)
    feedback = chat.caller.messages(chat.session_id)[1]["feedback"]
    assert (feedback["rating"], feedback["comment"]) == ("down", "Não ajudou.")
    chat.reload()
    expect(chat.reply.get_by_test_id("feedback-down")).to_have_attribute("aria-pressed", "true")
    chat.reply.get_by_test_id("feedback-down").click()
    expect(chat.reply.get_by_test_id("feedback-down")).to_have_attribute("aria-pressed", "false")
    assert chat.caller.messages(chat.session_id)[1]["feedback"] is None


def test_an_error_is_told_and_the_message_can_be_sent_again(chat: Chat, upstream: Upstream, watch: Watch) -> None:
    watch.expects("status of (429|502)")
    upstream.otherwise = scenarios.status(500)
    chat.open().say("Oi")
    expect(chat.part("error")).to_contain_text("provedor")
    chat.reload()
    expect(chat.part("error")).to_contain_text("provedor")
    upstream.otherwise = scenarios.echo()
    chat.part("error-retry").click()
    chat.hears("Eco (1): Oi")


def test_who_has_to_wait_is_told_how_long(chat: Chat, upstream: Upstream, watch: Watch) -> None:
    watch.expects("status of 429")
    upstream.otherwise = scenarios.status(429, headers={"Retry-After": "50"})
    chat.open().say("Oi")
    expect(chat.part("error-retry")).to_be_disabled()
    expect(chat.part("error")).to_contain_text("s")
    expect(chat.part("error").locator(".wait")).to_contain_text("4")


def test_a_long_conversation_is_shown_from_its_end(chat: Chat) -> None:
    session_id = new_id()
    for number in range(30):
        chat.caller.chat(f"mensagem {number}", session_id=session_id)
    chat.open(session_id)
    chat.hears("Eco (59): mensagem 29")
    expect(chat.question).to_be_in_viewport()
    expect(chat.messages("user")).to_have_count(10)
    chat.part("earlier").evaluate("button => button.click()")
    expect(chat.messages("user")).to_have_count(30)
    expect(chat.messages("user").first).to_contain_text("mensagem 0")
    expect(chat.part("earlier")).to_be_hidden()


def test_code_can_be_copied(chat: Chat, upstream: Upstream) -> None:
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    upstream.reply("Assim:\n\n```python\nprint('<b>olá</b>')\n```\n")
    chat.open().say("Como?")
    expect(chat.reply).to_have_attribute("data-status", "completed")
    chat.part("copy-code").click()
    expect(chat.part("copy-code")).to_have_text(re.compile("Copiado|Copied"))
    assert chat.page.evaluate("navigator.clipboard.readText()") == "print('<b>olá</b>')\n"
