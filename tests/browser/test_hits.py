"""A search's hit is shown where it stands, and a long conversation comes page by page, in a real browser."""

import re
import threading
from urllib.parse import parse_qs, urlsplit

from django.utils import timezone
from playwright.sync_api import Locator, Page, Request, Route, expect

from testing import scenarios
from testing.client import new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.chat_page import Chat
from tests.support.written import Line, write

MARKED = """() => [...CSS.highlights.get("hit")].map((range) => range.toString())"""
LONG = "mensagem {} com algum texto\n\nem dois parágrafos"


def texts(count: int, **special: str | Line) -> list[str | Line]:
    """Messages that are long enough for twenty to fill more than the window; some are others: m7="…"."""
    return [special.get(f"m{number}", LONG.format(number)) for number in range(count)]


def asked_for(page: Page) -> list[dict[str, str]]:
    """What the page asks the messages of conversations with, from now on."""
    seen: list[dict[str, str]] = []

    def note(request: Request) -> None:
        address = urlsplit(request.url)
        if address.path.endswith("/messages"):
            seen.append({name: values[0] for name, values in parse_qs(address.query).items()})

    page.on("request", note)
    return seen


def all_messages(chat: Chat) -> Locator:
    return chat.page.locator("article")


def search(chat: Chat, text: str, session_id: str) -> None:
    chat.part("search").fill(text)
    chat.row(session_id).locator("a[href*='q=']").click()


def scroll(chat: Chat, top: int) -> None:
    chat.part("messages").evaluate("(element, top) => { element.scrollTop = top }", top)


def held_are(chat: Chat, held: list[Route], count: int) -> None:
    """Wait until the page has asked that often; playwright tells of it while it waits itself."""
    for _ in range(500):
        if len(held) == count:
            return
        chat.page.wait_for_timeout(20)
    raise AssertionError(f"asked {len(held)} times")


def top_of(element: Locator) -> float:
    box = element.bounding_box()
    assert box is not None
    return box["y"]


def hit(chat: Chat) -> Locator:
    return chat.page.locator("article.hit")


def marked(chat: Chat) -> list[str]:
    return list(chat.page.evaluate(MARKED))


def test_a_hit_far_up_is_shown_marked_and_left_again(service: Service, upstream: Upstream, chat: Chat) -> None:
    session_id = new_id()
    ids = write(chat.caller, session_id, texts(
        200,
        m41="| taxa | valor |\n|---|---|\n| **Cartão** azul | R$ 1.234,56 |\n\n`cartões` e recartão",
        m120="um CARTÃO azul na fatura",
    ))  # fmt: skip
    chat.open()
    asked = asked_for(chat.page)
    search(chat, "azul 1234,56 cart", session_id)
    expect(hit(chat)).to_have_count(1)
    expect(hit(chat)).to_contain_text("R$ 1.234,56")
    expect(hit(chat)).to_be_in_viewport()
    assert set(marked(chat)) == {"1.234,56", "56", "Cartão", "azul", "cartões"}
    assert [sorted(each) for each in asked[:1]] == [["around", "limit", "order"]]
    assert all_messages(chat).count() == 50
    chat.reload()
    expect(hit(chat)).to_contain_text("R$ 1.234,56")
    expect(hit(chat)).to_be_in_viewport()
    assert f"message={ids[41]}" in chat.page.url
    assert chat.session_id == session_id
    expect(chat.part("hits-text")).to_contain_text("azul 1234,56 cart")
    expect(chat.part("hit-next")).to_have_attribute("aria-disabled", "true")

    # another search in the open conversation, from its newest hit to the one before it and back
    search(chat, "azul cart", session_id)
    expect(hit(chat)).to_contain_text("na fatura")
    expect(hit(chat)).to_be_in_viewport()
    assert marked(chat) == ["CARTÃO", "azul"]
    chat.part("hit-previous").click()
    expect(hit(chat)).to_contain_text("R$ 1.234,56")
    expect(hit(chat)).to_be_in_viewport()
    assert f"message={ids[41]}" in chat.page.url
    expect(chat.part("hit-previous")).to_have_attribute("aria-disabled", "true")
    chat.part("hit-next").click()
    expect(hit(chat)).to_contain_text("na fatura")
    scroll(chat, 0)
    chat.row(session_id).locator("a").click()
    expect(hit(chat)).to_be_in_viewport()
    chat.page.go_back()
    expect(hit(chat)).to_contain_text("R$ 1.234,56")

    # a message goes to the end, and the search is over
    upstream.reply("Entendi.")
    chat.say("E agora?")
    chat.hears("Entendi.")
    expect(chat.reply).to_be_in_viewport()
    expect(chat.part("hits")).to_be_hidden()
    assert (hit(chat).count(), marked(chat), "message=" in chat.page.url) == (0, [], False)


def test_a_long_conversation_comes_page_by_page_and_nothing_jumps(chat: Chat) -> None:
    session_id, other = new_id(), new_id()
    write(chat.caller, session_id, texts(140))
    write(chat.caller, other, ["curta", "resposta curta"])
    asked = asked_for(chat.page)
    chat.open(session_id)
    expect(chat.reply).to_contain_text("mensagem 139")
    expect(chat.reply).to_be_in_viewport()
    assert (all_messages(chat).count(), asked) == (20, [])
    first = chat.page.locator("article", has_text="mensagem 121 com")
    scroll(chat, 50)
    before = top_of(first)
    expect(all_messages(chat)).to_have_count(70)
    assert abs(top_of(first) - before) < 1
    for count in (120, 140):
        scroll(chat, 0)
        expect(all_messages(chat)).to_have_count(count)
    scroll(chat, 0)
    expect(chat.messages("user").first).to_contain_text("mensagem 0 com")
    expect(chat.part("earlier")).to_have_count(0)
    assert [re.search("[0-9]+", text)[0] for text in chat.part("message-text").all_inner_texts()] == [  # type: ignore[index]
        str(number) for number in range(140)
    ]
    assert len(asked) == 3
    chat.row(other).locator("a").click()
    chat.hears("resposta curta")
    assert all_messages(chat).count() == 2


def test_from_a_hit_one_reads_on_in_both_directions_to_the_end(chat: Chat, upstream: Upstream) -> None:
    session_id = new_id()
    ids = write(chat.caller, session_id, texts(150))
    chat.page.goto(f"{chat.url}/#/c/{session_id}?message={ids[60]}")
    chat.is_ready()
    expect(hit(chat)).to_contain_text("mensagem 60 com")
    expect(chat.part("hits")).to_be_hidden()
    here = chat.page.locator("article", has_text="mensagem 74 com")
    here.evaluate("element => element.scrollIntoView()")
    before = top_of(here)
    expect(chat.page.locator("article", has_text="mensagem 124 com")).to_have_count(1)
    assert abs(top_of(here) - before) < 1
    chat.page.locator("article", has_text="mensagem 124 com").evaluate("element => element.scrollIntoView()")
    expect(chat.page.locator("article", has_text="mensagem 129 com")).to_have_count(1)
    scroll(chat, 0)
    expect(chat.messages("user").first).to_contain_text("mensagem 0 com")
    expect(all_messages(chat)).to_have_count(150)
    expect(chat.part("earlier")).to_have_count(0)
    # what a message of an early page can do
    early = chat.page.locator("article", has_text="mensagem 3 com")
    early.get_by_test_id("feedback-up").click()
    expect(early.get_by_test_id("feedback-up")).to_have_attribute("aria-pressed", "true")
    question = chat.messages("user").nth(1)
    question.get_by_test_id("edit").click()
    question.get_by_test_id("edit-text").fill("outra coisa")
    upstream.reply("Outra resposta.")
    question.get_by_test_id("edit-send").click()
    chat.hears("Outra resposta.")
    assert [message["content"] for message in upstream.requests[-1].messages] == [
        LONG.format(0), LONG.format(1), "outra coisa"
    ]  # fmt: skip


def test_an_edit_above_a_gap_replaces_what_never_came(chat: Chat, upstream: Upstream) -> None:
    session_id = new_id()
    ids = write(chat.caller, session_id, texts(160))
    chat.page.goto(f"{chat.url}/#/c/{session_id}?message={ids[40]}")
    chat.is_ready()
    question = hit(chat)
    question.get_by_test_id("edit").click()
    question.get_by_test_id("edit-text").fill("outra coisa")
    upstream.reply("Outra resposta.")
    question.get_by_test_id("edit-send").click()
    chat.hears("Outra resposta.")
    expect(chat.reply).to_be_in_viewport()
    assert chat.caller.texts(session_id)[-3:] == [LONG.format(39), "outra coisa", "Outra resposta."]
    expect(chat.part("older-versions").locator("summary").last).to_contain_text("60")
    expect(chat.messages("user").last).to_contain_text("outra coisa")


def test_superseded_messages_come_when_somebody_looks(service: Service, chat: Chat) -> None:
    session_id, then = new_id(), timezone.now().isoformat()
    old = {f"m{number}": Line(f"versão {number}", superseded_at=then) for number in range(2, 302)}
    ids = write(chat.caller, session_id, texts(306, **old))
    asked = asked_for(chat.page)
    chat.open(session_id)
    expect(chat.messages("assistant")).to_have_count(3)
    assert (all_messages(chat).count(), asked) == (6, [])
    fold = chat.part("older-versions")
    expect(fold.locator("summary")).to_contain_text("150")
    fold.locator("summary").click()
    expect(fold.locator("article")).to_have_count(50)
    expect(fold.locator("article").first).to_contain_text("versão 2")
    fold.get_by_test_id("older-more").click()
    expect(fold.locator("article")).to_have_count(100)
    assert len(asked) == 2
    # the address of one of them, as a hit that was superseded since
    chat.page.goto(f"{chat.url}/#/c/{session_id}?message={ids[200]}&q=versao")
    expect(hit(chat)).to_contain_text("versão 200")
    expect(hit(chat)).to_be_in_viewport()
    assert marked(chat) == ["versão"]
    chat.reload()
    expect(hit(chat)).to_contain_text("versão 200")
    expect(hit(chat)).to_be_in_viewport()
    expect(chat.part("older-more")).to_have_count(2)
    before = top_of(hit(chat))
    fold.get_by_test_id("older-more").first.evaluate("button => button.click()")
    expect(fold.locator("article").first).not_to_contain_text("versão 190")
    assert abs(top_of(hit(chat)) - before) < 1


def test_a_hit_in_the_title_and_one_that_is_gone_open_the_end(chat: Chat) -> None:
    session_id = new_id()
    write(chat.caller, session_id, texts(30), title="Férias em Olinda")
    chat.open()
    search(chat, "ferias oli", session_id)
    expect(chat.part("hits-text")).to_contain_text("ferias oli")
    expect(chat.reply).to_be_in_viewport()
    assert (marked(chat), hit(chat).count()) == (["Férias", "Olinda"], 0)
    chat.part("hits-close").click()
    expect(chat.part("hits")).to_be_hidden()
    assert (marked(chat), chat.page.url.endswith(session_id)) == ([], True)
    for address in ("message=nada.500", "message=nada.3&q=x", "message=%E0%A4", "q=...", "x", "message=a"):
        chat.page.goto(f"{chat.url}/#/c/{session_id}?{address}")
        chat.reload()
        expect(chat.reply).to_contain_text("mensagem 29")
        expect(chat.reply).to_be_in_viewport()
        expect(hit(chat)).to_have_count(0)


def test_who_changes_the_conversation_while_a_page_comes_sees_the_other_one(chat: Chat) -> None:
    long, other, gone = new_id(), new_id(), new_id()
    ids = write(chat.caller, long, texts(100, m10="agulha no palheiro"))
    write(chat.caller, gone, texts(100, m10="outra agulha"))
    write(chat.caller, other, ["curta", "resposta curta"])
    chat.open(long)
    expect(chat.reply).to_contain_text("mensagem 99")
    held: list[Route] = []
    chat.page.route("**/messages?*", lambda route: held.append(route))
    scroll(chat, 0)
    held_are(chat, held, 1)
    chat.row(other).locator("a").click()
    chat.hears("resposta curta")
    search(chat, "agulha", long)
    held_are(chat, held, 2)
    chat.part("search").fill("agulha no palh")
    expect(chat.part("conversation")).to_have_count(1)
    chat.part("new-conversation").click()
    for route in held:
        route.continue_()
    chat.page.unroute("**/messages?*")
    expect(chat.part("greeting")).to_be_visible()
    assert (all_messages(chat).count(), chat.page.url) == (0, f"{chat.url}/#/")
    chat.part("search").fill("agulha")
    expect(chat.part("conversation")).to_have_count(2)
    chat.row(gone).locator("a").click()
    expect(hit(chat)).to_contain_text("outra agulha")
    chat.row_button(gone, "delete").click()
    chat.part("delete-confirm").click()
    expect(all_messages(chat)).to_have_count(0)
    expect(chat.part("hits")).to_be_hidden()
    chat.page.goto(f"{chat.url}/#/c/{long}?message={ids[10]}&q=agulha")
    expect(hit(chat)).to_contain_text("agulha no palheiro")


def test_a_running_reply_goes_on_below_a_hit_and_is_followed_at_the_end(chat: Chat, upstream: Upstream) -> None:
    session_id = new_id()
    ids = write(chat.caller, session_id, texts(100, m10="agulha no palheiro"))
    gate = threading.Event()
    upstream.script(scenarios.gated(gate, scenarios.rest("linha\n\n" * 60 + "e o fim"), after="O começo "))
    chat.open(session_id)
    chat.say("Conte")
    expect(chat.reply_text).to_have_text("O começo")
    chat.page.goto(f"{chat.url}/#/c/{session_id}?message={ids[10]}&q=agulha")
    expect(hit(chat)).to_be_in_viewport()
    before = top_of(hit(chat))
    gate.set()
    expect(chat.reply).to_have_attribute("data-status", "completed")
    assert abs(top_of(hit(chat)) - before) < 1
    expect(hit(chat)).to_be_in_viewport()
    chat.part("jump-down").click()
    expect(chat.reply_text).to_contain_text("e o fim")
    expect(chat.part("jump-down")).to_be_hidden()
