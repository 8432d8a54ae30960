"""Search by words: what is found, when and by whom; and what stays in the index."""

import json
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sessions_api import search
from sessions_api.models import Message, Outcome, Session, new_public_id
from sessions_api.retention import dead_turns, erasure
from sessions_api.store.messages import BegunTurn, NewTurn, TurnProgress
from sessions_api.store.turns import begin_turns, finish_turns, save_progress
from testing.client import Caller, good
from testing.service import Service
from tests.support.records import make_many, make_session

pytestmark = pytest.mark.django_db(transaction=True)
on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite's file")

STRANGE = [
    '"', "'", "*", "AND", "a AND", "NEAR(a b)", "^a", "-a", "a:b", "words: a", "(", "a OR b)", "a* *", "{a b} : c",
    "\\", "a\\", "'a' & !'b' | c:*", "<->", "%", "_", "'; DROP TABLE x; --", "😀", "👩\u200d👧", "\u0301",
    "a\u0301\u0301", "\u0958", "한국어", "ﷺ", "\ue000abc", "=open", "\ufeff", "\u00ad", "½", "\U0010ffff",
    "x" * 100_000, "a b " * 30_000,
]  # fmt: skip


def saying(session_id: str, *texts: str, **fields: Any) -> Session:
    """A session whose messages are these texts."""
    session = make_session(session_id, turns=0, **{"message_count": len(texts)} | fields)
    now = timezone.now()
    for position, text in enumerate(texts):
        row = {"role": "user", "status": "completed", "turn_id": new_public_id(), "created_at": now}
        Message.objects.create(session=session, position=position, content=text, **row)
    return session


def found(text: str, owner: str | None = "open") -> list[str]:
    sessions = Session.objects.filter(owner=owner) if owner else Session.objects.all()
    search.catch_up(60)  # a search itself waits for a moment only, however busy the machine is
    return sorted(search.matching(sessions, owner, text).values_list("session_id", flat=True))


def begin(session_id: str, question: str) -> BegunTurn:
    begun = begin_turns([NewTurn("open", session_id, new_public_id(), question)])[0]
    assert isinstance(begun, BegunTurn)
    return begun


# What is found


@pytest.mark.parametrize(
    "text",
    ["cartão", "cartao", "CARTÃO", "carta\u0303o", "Cartao.", "“cartão”", "anuidade cartão", "cartão cartão", "anui",
     "segunda-via", "via/segunda", "12,50", "50", "joao@example.com", "example", "<cartão>", "informacao"],
)  # fmt: skip
def test_words_are_found_however_they_are_written(text: str) -> None:
    said = "Qual é a anuidade do Cartão? (R$ 12,50; segunda via) Para: joao@example.com INFORMAC\u0327A\u0303O"
    saying("a", "Oi", said)
    saying("b", "Carta: não é", "onde fica a agência?")
    assert found(text) == ["a"]


@pytest.mark.parametrize("text", ["saldo fatura", "sa", "extrat saldo", "saldo! extrat.", "...", "inexistente"])
def test_all_words_have_to_be_in_one_message_and_complete_but_the_last(text: str) -> None:
    saying("a", "saldo e extrato", "fatura")
    assert found(text) == []


def test_what_is_being_typed_is_found_from_its_third_letter_on() -> None:
    saying("a", "Ações e extratos")
    typed = ("ex", "ext", "extra", "ext ", "aço", "EXTRATO", "acoes ext", "ext acoes")
    assert [found(text) for text in typed] == [[], ["a"], ["a"], [], ["a"], ["a"], ["a"], []]


def test_nothing_asked_for_is_everything() -> None:
    saying("a", "Oi")
    assert (found(""), found(" \t")) == (["a"], ["a"])


@given(st.text(st.sampled_from("abzçãéóúABÇÃÉ09ßœñ"), min_size=1, max_size=60), st.sampled_from(" .,;/-_(\n"))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_word_is_found(word: str, mark: str) -> None:
    session = saying(new_public_id(), f"Antes{mark}{word}{mark}depois")
    assert session.session_id in found(word + " ")


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("\u1d2d\u02b0")
def test_no_text_is_an_error(text: str) -> None:
    text = text.replace("\0", "")
    found(text)
    found(f"a{text}b c{text}", None)


def test_no_text_in_a_query_or_a_message_is_an_error() -> None:
    for number, text in enumerate(STRANGE):
        saying(f"s{number}", text, title=text[:200])
        found(text)
        found(text, "client:'\\ \"*")
    erasure.erase(Session.objects.all())
    assert found("a", None) == []


def test_a_message_of_very_many_words_is_stored_and_found() -> None:
    saying("a", "começo " + " ".join(f"palavra{number}" for number in range(100_000)))
    saying("b", "muito " + "longa" * 60_000)
    assert (found("palavra9 começo "), found("muito ")) == (["a"], ["b"])


# When


def test_a_question_is_found_at_once_and_a_reply_when_it_has_ended() -> None:
    begun = begin("a", "pergunta")
    save_progress([TurnProgress(begun.session_pk, begun.position, "resposta")])
    assert (found("pergunta "), found("resposta ")) == (["a"], [])
    finish_turns([Outcome(begun.session_pk, begun.position, "resposta inteira", "completed")])
    assert found("resposta inteira ") == ["a"]


def test_what_comes_after_a_turn_was_taken_for_dead_is_found() -> None:
    begun = begin("a", "pergunta")
    save_progress([TurnProgress(begun.session_pk, begun.position, "metade")])
    dead_turns.interrupt_dead_turns(timezone.now() + timedelta(hours=1))
    assert found("metade ") == ["a"]
    finish_turns([Outcome(begun.session_pk, begun.position, "tudo", "completed")])
    assert (found("metade "), found("tudo ")) == ([], ["a"])


def test_titles_are_found_by_their_words_as_long_as_they_stand() -> None:
    session = saying("a", "Oi", title="Empréstimo negado")
    assert found("emprestimo ") == ["a"]
    Session.objects.filter(pk=session.pk).update(title="Crédito")
    assert (found("emprestimo "), found("credito ")) == ([], ["a"])
    Session.objects.filter(pk=session.pk).update(title="")
    assert found("credito ") == []


@pytest.mark.parametrize("searched_before", [True, False])
def test_superseded_messages_are_not_found(searched_before: bool) -> None:
    session = saying("a", "primeira", "segunda")
    assert not searched_before or found("segunda ") == ["a"]
    session.messages.filter(position=1).update(superseded_at=timezone.now())
    assert (found("primeira "), found("segunda ")) == (["a"], [])
    session.messages.filter(position=1).update(superseded_at=None)
    assert found("segunda ") == ["a"]


@pytest.mark.parametrize("searched_before", [True, False])
def test_nothing_is_found_of_what_was_erased(searched_before: bool) -> None:
    saying("a", "segredo", title="segredo")
    saying("b", "segredo")
    assert not searched_before or found("segredo ") == ["a", "b"]
    erasure.erase(Session.objects.filter(session_id="a"))
    assert found("segredo ", None) == ["b"]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM sessions_api_messagewords w WHERE words @@ 'segredo'::tsquery")
            assert cursor.fetchone() == (1,)


@on_sqlite
def test_no_word_of_an_erased_conversation_is_left_in_the_index() -> None:
    canary = "canario" + secrets.token_hex(8)
    database = Path(connection.settings_dict["NAME"])
    erased = saying("a", f"Isto é {canary.upper()} aqui", title=canary.upper())
    saying("b", "Isto fica")
    search.catch_up(60)
    assert canary.encode() in _raw(database)
    erasure.erase(Session.objects.filter(pk=erased.pk))
    assert canary.encode() not in _raw(database)
    assert found("fica ") == ["b"]


def _raw(database: Path) -> bytes:
    return b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}*"))


@on_sqlite
def test_the_index_stays_sound_when_rows_go_in_another_order() -> None:
    for number in range(20):
        saying(f"s{number}", "palavra", f"outra{number}", title="palavra")
        assert number % 3 or found("palavra ")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.execute("DELETE FROM sessions_api_session WHERE id % 2 = 0")
        cursor.execute("DELETE FROM sessions_api_message WHERE session_id % 2 = 0")
        cursor.execute("PRAGMA foreign_keys = ON")
        assert len(found("palavra ")) == 10
        cursor.execute("INSERT INTO sessions_api_words(sessions_api_words) VALUES ('integrity-check')")
    erasure.erase(Session.objects.all())
    saying("nova", "palavra")
    assert found("palavra ", None) == ["nova"]


def test_existing_conversations_are_indexed_and_the_index_can_be_taken_away() -> None:
    session = saying("a", "antiga", title="Título")
    try:
        call_command("migrate", "sessions_api", "0004", verbosity=0)
        Message.objects.filter(session=session).update(content="mudada")
    finally:
        call_command("migrate", "sessions_api", verbosity=0)
    assert (found("mudada "), found("titulo "), found("antiga ")) == (["a"], ["a"], [])


# By whom


def test_what_is_rare_is_found_behind_many_newer_sessions() -> None:
    saying("velha", "segredo raro", age=timedelta(days=1))
    saying("alheia", "segredo raro", age=timedelta(days=1), owner="byok:x")
    make_many(search.LOOKED_THROUGH + 10)
    saying("nova", "raro")
    assert (found("raro "), found("segre"), found("raro ", None)) == (
        ["nova", "velha"],
        ["velha"],
        ["alheia", "nova", "velha"],
    )


def test_what_is_common_is_found_to_the_end_however_little_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_little(monkeypatch)
    for number in range(9):
        saying(f"s{number}", "comum", age=timedelta(hours=9 - number))
    assert paged("comum") == [f"s{number}" for number in range(8, -1, -1)]


def look_at_little(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_MATCHES", "LOOKED_THROUGH", "MANY"):
        monkeypatch.setattr(search, name, 3)


def paged(text: str, **filters: Any) -> list[str]:
    """All found sessions, last active first, in pages of two."""
    seen: list[str] = []
    search.catch_up(60)
    rest = Session.objects.filter(**filters).order_by("-last_activity_at")
    while len(page := list(search.matching(rest, "open", text)[:3])) == 3:
        seen += [session.session_id for session in page[:2]]
        rest = rest.filter(last_activity_at__lt=page[1].last_activity_at)
    return seen + [session.session_id for session in page]


@on_sqlite
def test_long_conversations_hide_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_little(monkeypatch)
    for number in range(9):
        saying(f"s{number}", *["comum"] * (number % 3 + 2), age=timedelta(hours=9 - number))
    assert paged("comum") == [f"s{number}" for number in range(8, -1, -1)]


@on_sqlite
def test_sessions_beside_the_filter_hide_none_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_little(monkeypatch)
    for number in range(18):
        saying(f"s{number}", "comum", persona_id="" if number % 8 else "rara", age=timedelta(hours=18 - number))
    assert paged("comum", persona_id="rara") == ["s16", "s8", "s0"]


@on_sqlite
@pytest.mark.parametrize(("scans", "asked_for"), [(1, 1_000), (100, 2)])
def test_an_old_conversation_that_goes_on_comes_first(
    monkeypatch: pytest.MonkeyPatch, scans: int, asked_for: int
) -> None:
    look_at_little(monkeypatch)
    monkeypatch.setattr(search, "SCANS", scans)
    monkeypatch.setattr(search, "WORDS_ASKED_FOR", asked_for)
    saying("velha", "comum")
    for number in range(9):
        saying(f"s{number}", "comum", age=timedelta(hours=9 - number))
    assert paged("comum")[:3] == ["velha", "s8", "s7"]


@on_sqlite
def test_nobody_can_write_the_word_of_an_owner() -> None:
    own = f"\ue000{b'open'.hex()}"
    alien = saying("alheia", f"{own} comum", f"{own} comum", owner="client:x", title=f"{own} comum")
    mine = saying("minha", "comum")
    assert found("comum ", None) == ["alheia", "minha"]
    alien.messages.filter(position=0).update(content="nada")  # its text is in the index already
    assert among([alien, mine], own) == [mine.pk]
    erasure.erase(Session.objects.all())
    assert among([alien, mine], "comum") == []


def among(sessions: list[Session], word: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(search.AMONG_FTS, [json.dumps([session.pk for session in sessions]), f'"{word}"', 10])
        return [pk for (pk,) in cursor.fetchall()]


def test_what_is_common_is_found_page_by_page_to_the_end(service: Service) -> None:
    caller = Caller(service)
    for number in range(5):
        caller.chat(f"Quanto custa o Pix {number}?", session_id=f"s{number}")
    caller.chat("Outra coisa", session_id="outra")
    pages, path = [], "/sessions?q=quanto+CUST&limit=2"
    while path:
        page = good(caller.get(path))
        pages.append([session["session_id"] for session in page["data"]])
        address = urlsplit(page["next"] or "")
        path = f"{address.path}?{address.query}" if address.query else ""
    assert pages == [["s4", "s3"], ["s2", "s1"], ["s0"]]


def test_only_ones_own_open_conversations_are_found(service: Service) -> None:
    ana, bia = Caller(service), Caller(service)
    ana.chat("A palavra é abracadabra", session_id="da-ana")
    bia.chat("Oi", session_id="da-bia")
    assert good(bia.get("/sessions", q="abracadabra"))["data"] == []
    assert [one["session_id"] for one in good(ana.get("/sessions", q="abracadabra"))["data"]] == ["da-ana"]
    good(ana.call("DELETE", "/sessions/da-ana"))
    assert good(ana.get("/sessions", q="abracadabra"))["data"] == []
