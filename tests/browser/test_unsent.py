"""What was typed into the chat page and did not get through, in a real browser, behind a hop that answers oddly."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Response, expect

from testing.client import Caller, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import Tabs, Watch
from tests.support.chat_page import Chat
from tests.support.hop import CUT, Answer, Hop
from tests.support.keys import Client

EVENTS = "text/event-stream"
STORED = "JSON.stringify([{...localStorage}, {...sessionStorage}])"
FULL = "for (let size = 6e6; size >= 1; size /= 2) try { localStorage[`full.${size}`] = 'x'.repeat(size) } catch {}"
FORBIDDEN = """for (const name of ['localStorage', 'sessionStorage', 'BroadcastChannel'])
    Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError'); } })"""
SPOILED = """sessionStorage.setItem('bancobot.tab', '[{');
const texts = ['{', '7', '{}', 'null', '{"kind": "sent", "id": "a", "text": "x"}', '{"kind": "draft", "id": "b"}'];
for (const text of texts) for (const reader of ['open', 'x'])
    localStorage.setItem(`bancobot.text.${reader}.${text.length}`, text)"""


@pytest.fixture
def hop(service: Service, watch: Watch) -> Iterator[Hop]:
    watch.expects("status of", "net::ERR_", "https://sso.example")
    with Hop(service.port) as opened:
        yield opened


@pytest.fixture
def behind(service: Service, page: Page, hop: Hop) -> Chat:
    """The chat page through the hop."""
    return Chat(page, Caller(service), hop.url)


def own(status: int, code: str, **more: object) -> Answer:
    """An error of BancoBot's own."""
    body = {"detail": f"Recusado: {code}.", "code": code, "request_id": "r", **more}
    return Answer(status, json.dumps(body).encode(), "application/json")


ERROR_EVENT = b'event: error\ndata: {"detail": "Nada feito.", "code": "permission_denied"}\n\n'
REFUSALS = {
    "400 field": (own(400, "invalid_request", errors={"message": ["Longa demais."]}), "Longa demais."),
    "401 html": (Answer(401), "HTTP 401"),
    "402": (own(402, "budget_exhausted", retry_after=3600), "budget_exhausted"),
    "403": (own(403, "permission_denied"), "permission_denied"),
    "403 html": (Answer(403), "HTTP 403"),
    "403 json": (Answer(403, b'{"message": "Forbidden", "code": 403}', "application/json"), "HTTP 403"),
    "404": (own(404, "session_not_found"), "session_not_found"),
    "404 html": (Answer(404), "HTTP 404"),
    "405 text": (Answer(405, b"no", "text/plain"), "HTTP 405"),
    "409": (own(409, "session_busy", retry_after=1), "session_busy"),
    "413": (own(413, "request_too_large"), "request_too_large"),
    "413 html": (Answer(413), "longa demais"),
    "422": (own(422, "idempotency_mismatch"), "idempotency_mismatch"),
    "429": (own(429, "rate_limited", retry_after=12), "rate_limited"),
    "429 html": (Answer(429, headers=(("Retry-After", "50"),)), "HTTP 429"),
    "500 html": (Answer(500), "HTTP 500"),
    "503 own": (own(503, "overloaded", retry_after=1), "overloaded"),
    "503 in an hour": (Answer(503, headers=(("Retry-After", "3600"),)), "HTTP 503"),
    "200 error event": (Answer(200, ERROR_EVENT, EVENTS), "Nada feito"),
    "200 html": (Answer(200), "respondeu"),
    "200 json": (Answer(200, b'{"ok": true}', "application/json"), "respondeu"),
    "200 html as json": (Answer(200, type="application/json"), "respondeu"),
    "200 empty": (Answer(200, b"", ""), "respondeu"),
    "204": (Answer(204, b"", ""), "respondeu"),
    "302 elsewhere": (Answer(302, b"", "", (("Location", "https://sso.example/login"),)), "respondeu"),
    "303 here": (Answer(303, b"", "", (("Location", "/docs"),)), "respondeu"),
    "307 here": (Answer(307, b"", "", (("Location", "/health"),)), "respondeu"),
}


def test_every_refusal_puts_the_text_back_with_its_reason(behind: Chat, hop: Hop, upstream: Upstream) -> None:
    behind.open()
    for name, (answer, reason) in REFUSALS.items():
        sent = len(hop.messages)
        hop.answers.append(answer)
        behind.say(f"Oi 🙂\n{name}")
        expect(behind.part("refusal-reason"), name).to_contain_text(reason)
        expect(behind.part("composer"), name).to_have_value(f"Oi 🙂\n{name}")
        expect(behind.messages("user"), name).to_have_count(0)
        expect(behind.part("title"), name).to_have_text("Nova conversa")
        assert len(hop.messages) == sent + 1, name
    behind.reload()
    expect(behind.part("composer")).to_have_value("Oi 🙂\n307 here")
    expect(behind.part("refusal-reason")).to_contain_text("respondeu")
    behind.part("refusal-again").click()
    behind.hears("Eco (1): Oi 🙂 307 here")  # with a line break between them
    assert hop.messages[-1] == hop.messages[-2], "sent again, it is the same request"
    expect(behind.part("refusal")).to_be_hidden()
    behind.reload()
    expect(behind.part("composer")).to_have_value("")
    assert upstream.count == 1


def test_a_text_that_is_too_long_comes_back_from_the_real_service(chat: Chat, watch: Watch) -> None:
    watch.expects("status of 4")
    chat.open()
    chat.part("composer").fill("a" * 100_001)
    chat.part("send").click()
    expect(chat.part("refusal-reason")).to_contain_text("100000")
    assert len(chat.part("composer").input_value()) == 100_001
    chat.part("composer").fill("")
    expect(chat.part("refusal")).to_be_hidden()


def test_neither_of_two_texts_is_lost(behind: Chat, hop: Hop, upstream: Upstream) -> None:
    session_id = new_id()
    behind.caller.chat("antes", session_id=session_id)
    behind.open(session_id)
    hop.otherwise = Answer(502)
    behind.say("um")
    expect(behind.part("connection")).to_be_visible()
    behind.part("composer").fill("dois")
    hop.otherwise = Answer(403)
    expect(behind.question).to_have_attribute("data-status", "unsent")
    expect(behind.question.get_by_test_id("message-text")).to_have_text("um")
    expect(behind.part("composer")).to_have_value("dois")
    behind.reload()
    expect(behind.part("composer")).to_have_value("dois")
    expect(behind.question.get_by_test_id("error")).to_contain_text("HTTP 403")
    behind.part("unsent-back").click()
    expect(behind.part("composer")).to_have_value("dois\n\num")
    expect(behind.messages("user")).to_have_count(1)
    hop.otherwise = Answer(502)
    behind.part("composer").fill("três")
    behind.part("send").click()
    expect(behind.part("connection")).to_be_visible()
    behind.part("composer").fill("quatro")
    behind.part("stop").click()
    expect(behind.question.get_by_test_id("error-retry")).to_be_visible()
    hop.otherwise = None
    behind.part("error-retry").click()
    behind.hears("Eco (3): três")
    assert len(set(hop.messages)) == 2, "each message has kept its key"
    expect(behind.part("composer")).to_have_value("quatro")
    hop.otherwise = Answer(500)
    behind.part("send").click()
    expect(behind.part("refusal")).to_be_visible()
    behind.part("refusal-close").click()
    expect(behind.part("refusal")).to_be_hidden()
    expect(behind.part("composer")).to_have_value("quatro")


def another_tab(chat: Chat, session_id: str = "", copied: bool = False) -> Chat:
    """A tab of the same browser; `copied`: with the first one's storage, as browsers duplicate a tab."""
    page = chat.page.context.new_page()
    if copied:
        storage = chat.page.evaluate("JSON.stringify({...sessionStorage})")
        page.add_init_script(f"for (const [n, v] of Object.entries({storage})) sessionStorage.setItem(n, v)")
    return Chat(page, chat.caller, chat.url).open(session_id)


def two_conversations(caller: Caller) -> list[str]:
    ids = [new_id(), new_id()]
    for session_id in ids:
        caller.chat("antes", session_id=session_id)
    return ids


def move_to(chat: Chat, session_id: str) -> None:
    if session_id:
        chat.row(session_id).locator("a").click()
        chat.hears("Eco (1): antes")
    else:
        chat.part("new-conversation").click()


def test_trying_again_has_an_end_and_respects_retry_after(behind: Chat, hop: Hop, upstream: Upstream) -> None:
    behind.page.clock.install()
    behind.open()
    answered: list[Response] = []
    behind.page.on("response", lambda response: answered.append(response) if response.url.endswith("/chat") else None)
    hop.answers.append(Answer(503, headers=(("Retry-After", "30"),)))
    hop.answers += [Answer(502), Answer(504), Answer(200, b"", EVENTS), Answer(200, b"data: {\n\n", EVENTS)]
    hop.otherwise = Answer(502)
    behind.say("Oi")
    expect(behind.part("connection")).to_contain_text("Ainda não enviada")
    behind.page.clock.run_for(20_000)
    assert len(hop.messages) == 1
    while not behind.part("refusal").is_visible():
        sent = len(answered)
        behind.page.clock.run_for(16_000)
        while len(answered) == sent and not behind.part("refusal").is_visible():
            behind.page.wait_for_timeout(20)
        behind.page.wait_for_timeout(50)  # the next pause has begun
    expect(behind.part("refusal-reason")).to_contain_text("HTTP 502")
    expect(behind.part("composer")).to_have_value("Oi")
    assert 10 < len(hop.messages) < 20
    hop.otherwise = None
    behind.part("refusal-again").click()
    behind.hears("Eco (1): Oi")
    assert len(set(hop.messages)) == 1
    assert upstream.count == 1


def test_each_conversation_has_a_draft_of_its_own(behind: Chat, hop: Hop) -> None:
    first, second = two_conversations(behind.caller)
    behind.open(first)
    texts = {first: "rascunho um", second: "rascunho dois", "": "rascunho novo"}
    for session_id, text in texts.items():
        move_to(behind, session_id)
        expect(behind.part("composer")).to_have_value("")
        behind.part("composer").fill(text)
    for session_id, text in texts.items():
        move_to(behind, session_id)
        expect(behind.part("composer")).to_have_value(text)
    behind.reload()
    for session_id, text in texts.items():
        move_to(behind, session_id)
        expect(behind.part("composer")).to_have_value(text)
    behind.part("composer").press("Enter")  # the new one gets its id
    behind.hears("Eco (1): rascunho novo")
    behind.part("composer").fill("e depois")
    behind.reload()
    expect(behind.part("composer")).to_have_value("e depois")
    move_to(behind, "")
    expect(behind.part("composer")).to_have_value("")
    # Of two messages that are on their way, none is lost.
    hop.otherwise = Answer(CUT)
    for session_id in (first, second):
        move_to(behind, session_id)
        behind.part("send").click()
        expect(behind.part("connection")).to_be_visible()
    hop.otherwise = None
    for session_id, text in ((first, "rascunho um"), (second, "rascunho dois")):
        behind.row(session_id).locator("a").click()
        behind.hears(f"Eco (3): {text}")
    assert len(set(hop.messages)) == 3, "each message has kept its key"


def test_tabs_do_not_fight(behind: Chat, hop: Hop, upstream: Upstream) -> None:
    session_id, _ = two_conversations(behind.caller)
    first = behind.open(session_id)
    first.part("composer").fill("um")
    second = another_tab(first, session_id, copied=True)
    expect(second.part("composer")).to_have_value("")
    second.part("composer").fill("dois")
    for chat, text in ((first, "um"), (second, "dois"), (first, "um")):
        chat.reload()
        expect(chat.part("composer")).to_have_value(text)
    hop.otherwise = Answer(502)
    first.part("composer").press("Enter")
    expect(first.part("connection")).to_be_visible()
    first.part("composer").fill("três")
    copy = another_tab(first, session_id, copied=True)
    copy.hears("Eco (1): antes")
    copy.page.wait_for_timeout(1200)  # the time in which it would ask for texts without an owner
    expect(copy.part("composer")).to_have_value("")
    expect(copy.messages("user")).to_have_count(1)
    copy.page.close()
    first.reload()
    expect(first.part("connection")).to_be_visible()
    expect(first.part("composer")).to_have_value("três")
    first.page.close()
    hop.otherwise = None
    third = another_tab(second, session_id)
    third.hears("Eco (3): um")
    expect(third.part("composer")).to_have_value("três")
    expect(second.part("composer")).to_have_value("dois")
    assert len(set(hop.messages)) == 1
    assert upstream.count == 3
    second.page.close()
    third.reload()
    expect(third.part("composer")).to_have_value("três")
    expect(third.question.get_by_test_id("message-text")).to_have_text("dois")
    third.part("unsent-discard").click()
    expect(third.question.get_by_test_id("message-text")).to_have_text("um")
    third.reload()
    expect(third.question.get_by_test_id("message-text")).to_have_text("um")


def test_a_first_message_of_a_closed_tab_is_found_with_new_conversations(behind: Chat, hop: Hop) -> None:
    hop.otherwise = Answer(502)
    behind.open().say("Oi")
    expect(behind.part("connection")).to_be_visible()
    behind.part("composer").fill("E mais")
    later = another_tab(behind)
    expect(later.part("composer")).to_have_value("")
    behind.page.close()
    later.reload()
    expect(later.part("composer")).to_have_value("E mais")
    expect(later.question.get_by_test_id("error")).to_contain_text("não se sabe", ignore_case=True)
    hop.otherwise = None
    later.part("error-retry").click()
    later.hears("Eco (1): Oi")
    expect(later.part("composer")).to_have_value("E mais")
    assert len(set(hop.messages)) == 1


@pytest.mark.parametrize("script", [FULL, FORBIDDEN, SPOILED], ids=["full", "forbidden", "spoiled"])
def test_it_works_with_bad_storage(service: Service, tabs: Tabs, hop: Hop, script: str) -> None:
    page = tabs.open()
    chat = Chat(page, Caller(service, key=""), hop.url)
    page.add_init_script(script)
    chat.open()
    hop.answers.append(Answer(403))
    chat.say("um")
    expect(chat.part("refusal-reason")).to_contain_text("HTTP 403")
    expect(chat.part("composer")).to_have_value("um")
    chat.part("composer").press("Enter")
    chat.hears("Eco (1): um")
    chat.part("composer").fill("dois")
    chat.part("new-conversation").click()
    expect(chat.part("composer")).to_have_value("")
    chat.page.go_back()
    expect(chat.part("composer")).to_have_value("dois")


def sign_in(chat: Chat, key: str) -> None:
    chat.part("signin-key").fill(key)
    chat.part("signin-key").press("Enter")
    expect(chat.part("signin")).to_be_hidden()


def test_a_draft_is_its_readers_alone(keyed: Service, page: Page, watch: Watch) -> None:
    watch.expects("status of 40[14]")
    mine, others = Client(keyed), Client(keyed)
    session_id = "ana"  # both readers have one of that name
    mine.caller().chat("antes", session_id=session_id)
    others.caller().chat("dos outros", session_id=session_id)
    key = mine.key()
    chat = Chat(page, Caller(keyed, key=""))
    page.goto(f"{chat.url}/#/c/{session_id}")
    sign_in(chat, key.whole)
    chat.hears("Eco (1): antes")
    chat.part("composer").fill("um segredo")
    chat.part("new-conversation").click()
    chat.part("composer").fill("outro segredo")
    assert key.whole.split("_")[2] not in page.evaluate("JSON.stringify({...localStorage})")

    # Another key of the same reader: everything goes on.
    key.revoke()
    page.wait_for_timeout(1100)  # a key is believed for a second
    chat.part("composer").press("Enter")
    expect(chat.part("signin")).to_be_visible()
    second = mine.key()
    sign_in(chat, second.whole)
    chat.hears("Eco (1): outro segredo")
    chat.row(session_id).locator("a").click()
    expect(chat.part("composer")).to_have_value("um segredo")

    # Another reader at the same page: nothing of the first one's is there.
    second.revoke()
    page.wait_for_timeout(1100)
    chat.part("composer").press("Enter")
    expect(chat.part("signin")).to_be_visible()
    sign_in(chat, others.key().whole)
    expect(chat.part("conversation")).to_have_count(1)
    expect(chat.part("composer")).to_have_value("")
    expect(page.get_by_text("segredo")).to_have_count(0)
    assert others.caller().get("/sessions").json()["data"][0]["title"] == "dos outros"

    # Who signs out leaves nothing behind.
    chat.part("composer").fill("meu rascunho")
    assert "meu rascunho" in page.evaluate(STORED)
    chat.part("conversation").locator("a").click()
    chat.question.get_by_test_id("edit").click()
    chat.part("edit-text").fill("meu rascunho também")
    chat.part("sign-out").click()
    expect(chat.part("signin")).to_be_visible()
    assert "meu rascunho" not in page.evaluate(STORED)


def test_an_edited_question_is_not_lost(behind: Chat, hop: Hop, upstream: Upstream) -> None:
    session_id, other = two_conversations(behind.caller)
    behind.open(session_id)
    behind.question.get_by_test_id("edit").click()
    behind.part("edit-text").fill("melhor")
    hop.answers.append(Answer(403))
    behind.part("edit-send").click()
    expect(behind.part("composer")).to_have_value("melhor")
    expect(behind.part("refusal")).to_contain_text("versões anteriores")
    behind.hears("Eco (1): antes")
    behind.part("composer").fill("ainda melhor")
    behind.part("refusal-again").click()
    behind.hears("Eco (1): ainda melhor")
    expect(behind.messages("user")).to_have_count(1)
    behind.question.get_by_test_id("edit").click()
    behind.part("edit-text").fill("pela metade")
    move_to(behind, other)
    behind.row(session_id).locator("a").click()
    expect(behind.question.get_by_test_id("message-text")).to_have_text("pela metade")
    behind.question.get_by_test_id("unsent-back").wait_for()
    behind.messages("user").first.get_by_test_id("edit").click()
    behind.part("edit-text").fill("um outro")
    behind.part("edit-send").click()
    behind.hears("Eco (1): um outro")
    expect(behind.question.get_by_test_id("message-text")).to_have_text("pela metade")
    behind.part("unsent-back").click()
    expect(behind.part("composer")).to_have_value("pela metade")
    expect(behind.messages("user")).to_have_count(1)


def test_what_is_typed_while_the_page_loads_stays(behind: Chat) -> None:
    typed = "addEventListener('DOMContentLoaded', () => (document.querySelector('#composer').value = 'cedo'))"
    behind.page.add_init_script(f"document.addEventListener('readystatechange', () => {{ {typed} }}, {{once: true}})")
    behind.open()
    expect(behind.part("composer")).to_have_value("cedo")


def test_a_message_that_fails_after_its_conversation_was_left_waits_there(behind: Chat, hop: Hop) -> None:
    first, second = two_conversations(behind.caller)
    behind.open(first)
    hop.otherwise = Answer(502)
    for session_id, text in ((first, "um"), ("", "novo")):
        move_to(behind, session_id)
        behind.say(text)
        expect(behind.part("connection")).to_be_visible()
    move_to(behind, second)
    hop.otherwise = Answer(403)
    expect(behind.part("toast")).to_contain_text("HTTP 403")
    while behind.page.evaluate(STORED).count("unsent") < 2:
        behind.page.wait_for_timeout(50)
    expect(behind.part("composer")).to_have_value("")
    for session_id, text in ((first, "um"), ("", "novo")):
        behind.part("new-conversation").click()
        if session_id:
            behind.row(session_id).locator("a").click()
        expect(behind.question.get_by_test_id("error")).to_contain_text("HTTP 403")
        expect(behind.question.get_by_test_id("message-text")).to_have_text(text)
    hop.otherwise = None
    behind.part("error-retry").click()
    behind.hears("Eco (1): novo")
    assert len(set(hop.messages)) == 2


def test_a_whole_answer_in_the_place_of_a_stream_is_understood(behind: Chat, hop: Hop) -> None:
    answer = {"response": "De uma vez.", "turn_id": "t", "session_id": "s", "model_used": "m", "usage": None}
    hop.answers.append(Answer(200, json.dumps(answer).encode(), "application/json"))
    behind.open().say("Oi")
    behind.hears("De uma vez.")
    expect(behind.part("composer")).to_have_value("")


def test_who_does_without_a_key_has_the_text_back(service: Service, page: Page, hop: Hop) -> None:
    chat = Chat(page, Caller(service, key=""), hop.url).open()
    hop.answers.append(own(401, "invalid_api_key"))
    chat.say("um")
    chat.part("signin-cancel").click()
    expect(chat.part("composer")).to_have_value("um")
    expect(chat.part("refusal-reason")).not_to_be_empty()
