"""Signing in to the chat page of a service that asks for keys, in a real browser."""

import threading

import pytest
from playwright.sync_api import Page, expect

from testing import scenarios
from testing.client import Caller, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import Watch
from tests.support.chat_page import Chat
from tests.support.keys import Client, made_up_key

KEPT = "JSON.stringify([{...sessionStorage}, {...localStorage}])"


@pytest.fixture
def visitor(keyed: Service, page: Page, watch: Watch) -> Chat:
    """A reader without a key yet."""
    watch.expects("status of 401")
    return Chat(page, Caller(keyed, key=""))


def sign_in(chat: Chat, key: str) -> None:
    chat.part("signin-key").fill(key)
    chat.part("signin-key").press("Enter")


def test_who_has_a_key_signs_in_and_out(keyed: Service, visitor: Chat) -> None:
    key = Client(keyed).key().whole
    visitor.page.goto(visitor.url)
    sign_in(visitor, f"{key},{key}")
    expect(visitor.part("signin-error")).to_contain_text("vírgulas")
    sign_in(visitor, made_up_key())
    expect(visitor.part("signin-error")).to_contain_text("BancoBot")
    sign_in(visitor, key)
    expect(visitor.part("signin")).to_be_hidden()
    visitor.asks("Oi", "Eco (1): Oi")
    visitor.reload()
    visitor.hears("Eco (1): Oi")
    assert key in visitor.page.evaluate(KEPT)
    assert key not in visitor.page.url
    visitor.part("sign-out").click()
    expect(visitor.part("signin")).to_be_visible()
    expect(visitor.part("conversation")).to_have_count(0)
    assert key not in visitor.page.evaluate(KEPT)
    visitor.page.reload()
    expect(visitor.part("signin")).to_be_visible()
    assert key.split("_")[2] not in keyed.log()


@pytest.mark.parametrize("remember", [True, False])
def test_a_key_is_remembered_on_the_device_by_wish_alone(keyed: Service, visitor: Chat, remember: bool) -> None:
    visitor.page.goto(visitor.url)
    visitor.part("signin-remember").set_checked(remember)
    sign_in(visitor, Client(keyed).key().whole)
    expect(visitor.part("signin")).to_be_hidden()
    later = Chat(visitor.page.context.new_page(), visitor.caller)
    later.page.goto(later.url)
    expect(later.part("signin")).to_be_visible(visible=not remember)
    expect(later.part("sign-out")).to_be_visible(visible=remember)
    if remember:
        later.part("sign-out").click()
        expect(visitor.part("signin")).to_be_visible()


def test_a_key_that_is_revoked_in_the_middle_of_a_reply_costs_no_text(
    keyed: Service, upstream: Upstream, page: Page, watch: Watch
) -> None:
    watch.expects("status of 401")
    client, gate = Client(keyed), threading.Event()
    key = client.key()
    chat = Chat(page, Caller(keyed, key.whole)).open()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim."), after="O começo "))
    chat.say("Conte")
    expect(chat.reply_text).to_have_text("O começo")
    chat.part("composer").fill("Um rascunho")
    key.revoke()
    expect(chat.part("signin")).to_be_visible()
    gate.set()
    sign_in(chat, client.key().whole)
    chat.hears("O começo e o fim.")
    expect(chat.part("composer")).to_have_value("Um rascunho")
    assert upstream.count == 1


def test_a_revoked_key_is_noticed_with_the_next_message_which_is_kept(
    keyed: Service, upstream: Upstream, page: Page, watch: Watch
) -> None:
    watch.expects("status of 401")
    client = Client(keyed)
    key = client.key()
    chat = Chat(page, Caller(keyed, key.whole)).open()
    key.revoke()
    page.wait_for_timeout(1100)  # a key is believed for a second
    chat.say("Ainda aí?")
    expect(chat.part("signin")).to_be_visible()
    sign_in(chat, client.key().whole)
    chat.hears("Eco (1): Ainda aí?")
    assert upstream.count == 1


def test_another_persons_conversation_is_not_there(keyed: Service, page: Page, watch: Watch) -> None:
    watch.expects("status of 404")
    session_id = new_id()
    Client(keyed).caller().chat("Segredo", session_id=session_id)
    chat = Chat(page, Client(keyed).caller()).open(session_id)
    expect(chat.part("error")).to_be_visible()
    expect(chat.part("conversation")).to_have_count(0)
    expect(page.get_by_text("Segredo")).to_have_count(0)
