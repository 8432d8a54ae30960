"""Hostile texts in every field that others write: in a real browser none of them runs, or calls another host."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from testing import scenarios
from testing.client import Caller, good
from testing.exchange import Exchange
from testing.upstream import Upstream
from tests.support.browser import Tabs, Watch
from tests.support.browser_fixtures import log_in
from tests.support.chat_page import Chat
from tests.support.hostile import ALL, HOSTILE, IDS, LONG
from tests.support.keys import Client
from tests.support.services import Services

# Attributes, addresses and elements that do not come from the page's own scripts and templates.
STRANGE = r"""() => {
    const ran = window.pwned !== undefined || Object.prototype.pwned !== undefined;
    const handler = /^on|^srcdoc$/, place = /^(href|src|action|formaction|data)$/;
    const code = /^\s*(javascript|vbscript|data|blob):/i;
    const strange = [...document.querySelectorAll("*")].filter((element) => [...element.attributes].some(
        ({ name, value }) => handler.test(name) || (place.test(name) && code.test(value))));
    const known = "a, blockquote, br, button, code, del, div, em, h3, h4, h5, h6, hr, li, ol, p, pre, span, strong, "
        + "table, tbody, td, th, thead, tr, ul";
    const texts = ":is([data-testid=message-text], .transcript .text)";
    strange.push(...document.querySelectorAll(`${texts} :not(${known})`));
    strange.push(...document.querySelectorAll(`${texts} :is([id], [name], [style], [class*=versions])`));
    strange.push(...document.querySelectorAll("script:not([src]):not([type='application/json'])"));
    return [...(ran ? ["it ran"] : []), ...strange.map((element) => element.outerHTML.slice(0, 300))];
}"""

# Visits one address after the other, with time for the page to react to each.
VISIT = """async (hashes) => {
    for (const hash of hashes) {
        location.hash = hash;
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
}"""


def harmless(page: Page) -> None:
    assert page.evaluate(STRANGE) == []


def mirror() -> scenarios.Scenario:
    """Echoes the message exactly, in small pieces, so that tags are split."""

    async def play(exchange: Exchange) -> None:
        text = exchange.request.messages[-1]["content"]
        size = max(7, len(text) // 500)
        pieces = [text[place : place + size] for place in range(0, len(text), size)]
        await scenarios.ok("", pieces=pieces)(exchange)

    return play


def models() -> list[dict[str, Any]]:
    return [{**scenarios.model(text), "name": text, "description": text} for text in HOSTILE]


@pytest.fixture(scope="module")
def _written(services: Services, _upstream: Upstream) -> Iterator[Caller]:
    """A caller with one conversation that has every text as message, reply and model, and one per text as title."""
    with services.own(MODELS_CACHE_SECONDS="0") as service:
        caller = Caller(service)
        _upstream.clear()
        _upstream.otherwise = mirror()
        with caller.connection() as client:
            for text in HOSTILE:
                good(client.post("/chat", json={"message": text, "session_id": "all", "model": text[:200]}))
            for number, text in enumerate(HOSTILE):
                session_id = IDS[number] if number < len(IDS) else f"s{number}"
                good(client.post("/chat", json={"message": text, "session_id": session_id}))
                service.sql("UPDATE sessions_api_session SET title = %s WHERE session_id = %s", text, session_id)
        yield caller


@pytest.fixture
def caller(_written: Caller, upstream: Upstream) -> Caller:
    upstream.otherwise, upstream.models = mirror(), scenarios.models({"data": models()})
    return _written


@pytest.fixture(scope="module")
def _logged_in(_written: Caller, _chromium: Browser) -> StorageState:
    return log_in(_written.service, _chromium)


def test_messages_replies_and_model_names_are_shown_as_text(caller: Caller, page: Page) -> None:
    chat = Chat(page, caller).open("all")
    expect(chat.question).to_be_attached()  # only a conversation that is there says whether there is more of it
    while chat.messages("assistant").count() < 50:
        shown = chat.messages("user").count()
        chat.part("messages").evaluate("element => { element.scrollTop = 0 }")
        expect(chat.messages("user").nth(shown)).to_be_attached()
    expect(chat.messages("assistant")).to_have_count(50)
    harmless(page)
    asked = chat.messages("user").get_by_test_id("message-text").evaluate_all("all => all.map(one => one.textContent)")
    assert asked == HOSTILE


def test_a_reply_is_harmless_while_it_is_written(caller: Caller, page: Page) -> None:
    chat = Chat(page, caller).open()
    chat.say(ALL)
    expect(chat.reply).to_have_attribute("data-status", "completed")
    harmless(page)
    chat.say(LONG)
    expect(chat.messages("assistant")).to_have_count(2)
    expect(chat.reply).to_have_attribute("data-status", "completed")
    harmless(page)


def test_titles_and_models_are_shown_as_text(caller: Caller, page: Page) -> None:
    chat = Chat(page, caller).open()
    chat.part("conversations-more").click()
    expect(chat.part("conversations-more")).to_be_hidden()
    titles = chat.part("conversation").locator(".row-title").all_inner_texts()
    assert len(titles) > 50
    harmless(page)
    chat.row("s40").locator("a").click()
    expect(chat.part("title")).not_to_be_empty()
    chat.row_button("s40", "delete").click()
    harmless(page)
    chat.part("delete-cancel").click()
    chat.part("model-picker").click()
    expect(chat.part("model-option")).to_have_count(50)
    harmless(page)


def test_every_session_id_can_be_opened_and_no_address_runs(caller: Caller, page: Page, watch: Watch) -> None:
    watch.expects("status of 40[04]")
    chat = Chat(page, caller).open()
    for number, session_id in enumerate(IDS):
        page.evaluate("id => { location.hash = `#/c/${encodeURIComponent(id)}` }", session_id)
        expect(chat.question.get_by_test_id("message-text")).to_have_text(HOSTILE[number], use_inner_text=False)
    page.evaluate(VISIT, [*(f"#{text}" for text in HOSTILE), *(f"#/c/{text}" for text in HOSTILE)])
    page.evaluate(VISIT, [f"#/c/{quote(text, safe='')}" for text in HOSTILE])
    harmless(page)


def test_what_goes_wrong_is_told_as_text(caller: Caller, page: Page, watch: Watch) -> None:
    watch.expects("status of 400")
    problem = {"detail": ALL, "code": "invalid_request", "request_id": "x", "errors": {"message": HOSTILE}}
    body = json.dumps(problem)
    chat = Chat(page, caller).open()
    page.route("**/chat", lambda route: route.fulfill(status=400, body=body, content_type="application/json"))
    page.route("**/sessions?*", lambda route: route.fulfill(status=400, body=body, content_type="application/json"))
    chat.say("Oi")
    expect(chat.part("refusal-reason")).to_contain_text("<script>")
    chat.part("search").fill("x")
    expect(chat.part("conversations-empty")).to_contain_text("<script>")
    harmless(page)


def test_the_admin_shows_them_as_text(caller: Caller, _logged_in: StorageState, upstream: Upstream, tabs: Tabs) -> None:
    service, gate = caller.service, threading.Event()
    page = tabs.open(base_url=service.url, storage_state=_logged_in)
    for text in HOSTILE[:10]:
        Client(service, name=text).caller().chat("Oi", session_id="alheia")
    upstream.script(scenarios.gated(gate, scenarios.rest(), after=ALL))
    body = {"message": ALL, "session_id": "running", "model": HOSTILE[6], "stream": True}
    with caller.connection() as client, client.stream("POST", "/chat", json=body) as reply:
        lines = reply.iter_lines()
        next(lines)
        page.goto("/admin/running/")
        expect(page.get_by_text(HOSTILE[6])).to_be_visible()
        harmless(page)
        gate.set()
        assert "event: done" in list(lines)
    for path in (
        "/admin/overview/",
        "/admin/sessions_api/session/",
        "/admin/sessions_api/session/?q=script",
        "/admin/access/client/",
    ):
        page.goto(path)
        harmless(page)
    ((number,),) = service.sql("SELECT id FROM sessions_api_session WHERE session_id = %s", "all")
    page.goto(f"/admin/sessions_api/session/{number}/change/")
    expect(page.locator(".transcript .message")).to_have_count(100)
    texts = page.locator(".transcript .message.user .text").all_inner_texts()
    assert HOSTILE[0] in texts
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    harmless(page)
