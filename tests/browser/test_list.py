"""The chat page's list of conversations, its models and its exports, in a real browser."""

import json
from pathlib import Path

from playwright.sync_api import expect

from testing.client import new_id, problem
from testing.upstream import Upstream
from tests.support.chat_page import Chat


def three_conversations(chat: Chat) -> list[str]:
    ids = [new_id() for _ in range(3)]
    for session_id, text in zip(ids, ("Quero um cartão novo", "Qual é a tarifa?", "Como invisto?"), strict=True):
        chat.caller.chat(text, session_id=session_id)
    return ids


def test_a_conversation_is_found_opened_and_found_again_by_the_way_back(chat: Chat) -> None:
    ids = three_conversations(chat)
    chat.open()
    expect(chat.part("conversation")).to_have_count(3)
    chat.part("search").fill("cartao")
    expect(chat.part("conversation")).to_have_count(1)
    chat.row(ids[0]).locator("a").click()
    chat.hears("Eco (1): Quero um cartão novo")
    chat.part("search").fill("nada disso")
    expect(chat.part("conversations-empty")).to_be_visible()
    chat.part("search").press("Escape")
    chat.row(ids[1]).locator("a").click()
    chat.hears("Eco (1): Qual é a tarifa?")
    chat.page.go_back()
    chat.hears("Eco (1): Quero um cartão novo")
    expect(chat.row(ids[0]).locator("a")).to_have_attribute("aria-current", "page")


def test_a_conversation_is_renamed(chat: Chat) -> None:
    ids = three_conversations(chat)
    chat.open(ids[2])
    chat.row_button(ids[2], "rename").click()
    expect(chat.part("rename-input")).to_have_value("Como invisto?")
    chat.part("rename-input").fill("<b>Investimentos</b>")
    chat.part("rename-save").click()
    expect(chat.part("title")).to_have_text("<b>Investimentos</b>")
    expect(chat.row(ids[2])).to_contain_text("<b>Investimentos</b>")
    assert chat.caller.session(ids[2])["title"] == "<b>Investimentos</b>"


def test_a_conversation_is_removed_when_the_reader_is_sure(chat: Chat) -> None:
    ids = three_conversations(chat)
    chat.open(ids[1])
    chat.row_button(ids[1], "delete").click()
    chat.part("delete-cancel").click()
    expect(chat.part("conversation")).to_have_count(3)
    chat.row_button(ids[1], "delete").click()
    expect(chat.part("delete-title")).to_have_text("Qual é a tarifa?")
    chat.part("delete-confirm").click()
    expect(chat.part("conversation")).to_have_count(2)
    expect(chat.messages("user")).to_have_count(0)
    problem(chat.caller.get(f"/sessions/{ids[1]}"), 404, "session_not_found")


def test_a_model_is_chosen_by_its_name_context_and_price(chat: Chat, upstream: Upstream) -> None:
    chat.open()
    expect(chat.part("model-picker")).to_contain_text("test/model")
    chat.part("model-picker").click()
    large = chat.page.locator("[data-testid=model-option][data-model='scripted/large']")
    expect(large).to_contain_text("Scripted/Large")
    expect(large).to_contain_text("128.000")
    expect(large).to_contain_text("10,00")
    chat.part("model-filter").fill("LARGE")
    expect(chat.part("model-option")).to_have_count(1)
    large.click()
    expect(chat.part("model-picker")).to_contain_text("Scripted/Large")
    chat.asks("Oi", "Eco (1): Oi")
    assert upstream.requests[-1].body["model"] == "scripted/large"
    chat.reload()
    expect(chat.part("model-picker")).to_contain_text("Scripted/Large")
    chat.asks("E?", "Eco (3): E?")
    assert upstream.requests[-1].body["model"] == "scripted/large"


def test_a_conversation_is_exported_with_the_readers_key(chat: Chat) -> None:
    (session_id, *_) = three_conversations(chat)
    chat.open(session_id)
    chat.part("export").locator("summary").click()
    with chat.page.expect_download() as saved:
        chat.part("export-jsonl").click()
    (line,) = Path(saved.value.path()).read_text().splitlines()
    assert [message["content"] for message in json.loads(line)["messages"]] == [
        "Quero um cartão novo",
        "Eco (1): Quero um cartão novo",
    ]
    chat.part("export").locator("summary").click()
    with chat.page.expect_download() as saved:
        chat.page.get_by_role("button", name="Tabela para o Excel em português (CSV)").click()
    assert saved.value.suggested_filename == f"bancobot-{session_id}.excel.csv"
    table = Path(saved.value.path()).read_bytes()
    assert table.startswith(b"\xef\xbb\xbfcase_id;message_id;")
    assert ";Quero um cartão novo;".encode() in table
