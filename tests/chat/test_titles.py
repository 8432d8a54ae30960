"""A conversation's title: the beginning of its first message, and with AUTO_TITLE a title from the model."""

import importlib
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.utils import timezone

from chat.engine.titles import cleaned
from sessions_api.models import Message, Session
from sessions_api.store.titles import MAX_TITLE_CHARS, title_of
from testing import scenarios
from testing.client import Caller, good, new_id, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.keys import Client
from tests.support.services import Services

LONG = "Gostaria de saber como faço para aumentar o limite do meu cartão de crédito sem pagar anuidade"


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Oi", "Oi"),
        ("  Como faço\n\num Pix?  ", "Como faço um Pix?"),
        (LONG, "Gostaria de saber como faço para aumentar o limite do meu…"),
        ("x" * 61, f"{'x' * 59}…"),
        ("x" * 60, "x" * 60),
        ("a" * 40 + ", " + "b" * 40, "a" * 40 + "…"),
        ("é" * 1_000_000, "é" * 59 + "…"),
        ("e\u0301" * 40, "e\u0301" * 29 + "…"),
        ("👩‍💻" * 30, "👩‍💻" * 19 + "…"),
        ("🇧🇷" * 40, "🇧🇷" * 29 + "…"),
        ("x" + "🇧🇷" * 40, "x" + "🇧🇷" * 29 + "…"),
        ("👍🏽x" * 30, "👍🏽x" * 19 + "👍🏽…"),
        ("1️⃣" * 30, "1️⃣" * 19 + "…"),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f" * 9,
            ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f" * 8) + "…",
        ),
        ("\u1112\u1161\u11ab" * 30, "\u1112\u1161\u11ab" * 19 + "…"),
        ("क्षि" * 20, "क्षि" * 14 + "…"),
        ("กำx" * 30, "กำx" * 19 + "กำ…"),
        (" " * 1198 + "👩‍💻", "👩‍💻"),
        ("z" + "\u0301" * 100, "…"),
    ],
)
def test_it_is_cut_at_a_word(question: str, title: str) -> None:
    assert title_of(question) == title
    assert len(title) <= MAX_TITLE_CHARS


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("Limite do cartão", "Limite do cartão"),
        ('"Limite do cartão."\n', "Limite do cartão"),
        ("\n\n**Limite** do cartão\nE mais", "Limite** do cartão"),
        ("# Título: Pix", "Título: Pix"),
        ("a\tb\x00c\u202ed\u2028e", "a b c d"),
        ("", ""),
        ("…\n---", "…"),
        ("x" * 500, "x" * 80),
        ("👨‍👩‍👧‍👦" * 20, "👨‍👩‍👧‍👦" * 11),
        ("#️⃣ Canais 👩‍💻", "#️⃣ Canais 👩‍💻"),
        ("**1️⃣ Pix** 🏴\U000e0067\U000e0062\U000e007f", "1️⃣ Pix** 🏴\U000e0067\U000e0062\U000e007f"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("<think>\nO cliente quer…\n</think>\n\nLimite do cartão", "Limite do cartão"),
        ("<thinking>hm</thinking>Limite", "Limite"),
        ("O cliente quer…\n</think>\nLimite do cartão", "Limite do cartão"),
        ("<think>O cliente quer saber do", ""),
        ("<THINK type='x'>hm</THINK> Limite <think>mais</think>", "Limite"),
        ("Pense <em>bem</em>", "Pense <em>bem</em>"),
    ],
)
def test_what_a_model_says_becomes_one_clean_line(said: str, title: str) -> None:
    assert cleaned(said) == title


def test_it_is_there_at_once_and_stays_when_the_conversation_goes_on(service: Service) -> None:
    caller, session = Caller(service), new_id()
    caller.chat(LONG, session_id=session)
    caller.chat("Outra coisa", session_id=session)
    assert caller.session(session)["title"] == title_of(LONG)


def test_a_title_of_somebody_s_own_stays(service: Service) -> None:
    caller, session = Caller(service), new_id()
    caller.chat("Oi", session_id=session)
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": ""}))
    caller.chat("Outra coisa", session_id=session)
    assert caller.session(session)["title"] == ""


@pytest.fixture(scope="module")
def entitling(services: Services) -> Iterator[Service]:
    with services.own(AUTO_TITLE="true", AUTO_TITLE_MODEL="test/small") as service:
        yield service


def has_title(caller: Caller, session: str, title: str) -> bool:
    return bool(caller.session(session)["title"] == title)


def test_the_model_gives_a_conversation_its_title_once(entitling: Service, upstream: Upstream) -> None:
    caller, session = Caller(entitling), new_id()
    upstream.reply("Vá ao aplicativo.")
    upstream.reply("Limite do cartão")
    answer = caller.chat(LONG, session_id=session)
    wait_until(lambda: has_title(caller, session, "Limite do cartão"))
    caller.chat("E agora?", session_id=session)
    assert upstream.count == 3
    request = upstream.requests[1]
    assert request.body["model"] == "test/small"
    assert LONG in request.messages[-1]["content"]
    assert "Vá ao aplicativo." in request.messages[-1]["content"]
    assert request.headers["authorization"] == f"Bearer {caller.key}"
    assert len(caller.texts(session)) == 4
    assert caller.session(session)["usage"]["total_tokens"] > 2 * answer["usage"]["total_tokens"]


def test_no_title_is_better_than_a_bad_one(entitling: Service, upstream: Upstream) -> None:
    for bad in (scenarios.status(500), scenarios.ok("***"), scenarios.truncated()):
        caller, session = Caller(entitling), new_id()
        upstream.clear()
        upstream.reply("Olá!")
        upstream.script(bad)
        caller.chat("Oi, tudo bem?", session_id=session)
        wait_until(lambda: upstream.count == 2 and upstream.requests[1].status is not None)
        assert caller.session(session)["title"] == "Oi, tudo bem?"


def test_a_failed_turn_gets_no_title(entitling: Service, upstream: Upstream) -> None:
    caller, session = Caller(entitling), new_id()
    upstream.script(scenarios.error_mid_stream())
    assert caller.post("/chat", message="Oi", session_id=session).status_code == 502
    caller.chat("Oi de novo", session_id=session)
    assert upstream.count == 2


def test_what_it_takes_counts_for_the_owner_s_limits(entitling: Service, upstream: Upstream) -> None:
    client = Client(entitling, tokens_per_day=1_000_000)
    caller, session = client.caller(), new_id()
    upstream.reply("Olá!")
    upstream.reply("Um cumprimento")
    caller.chat("Oi", session_id=session)
    wait_until(lambda: has_title(caller, session, "Um cumprimento"))
    caller.chat("Tchau", session_id=new_id())
    (used,) = entitling.sql("SELECT tokens FROM access_account WHERE owner = %s", client.owner)[0]
    assert used == caller.session(session)["usage"]["total_tokens"]


SPENT = {
    "all of it spent thinking": scenarios.ok("", finish="length", usage=scenarios.usage(700, 60)),
    "cut after its counts": scenarios.raw(
        b'data: {"choices": [{"index": 0, "delta": {"content": "Um"}}]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": 700, "completion_tokens": 60}}\n\n',
    ),
}


@pytest.mark.parametrize("kind", SPENT)
def test_a_title_that_failed_counts_too(entitling: Service, upstream: Upstream, kind: str) -> None:
    client = Client(entitling, tokens_per_day=1_000_000)
    caller, session = client.caller(), new_id()
    upstream.reply("Olá!")
    upstream.script(SPENT[kind])
    used = caller.chat("Oi", session_id=session)["usage"]["total_tokens"]
    wait_until(lambda: caller.session(session)["usage"]["total_tokens"] == used + 760)
    assert caller.session(session)["title"] == "Oi"
    caller.chat("Tchau", session_id=session)
    assert entitling.sql("SELECT tokens FROM access_account WHERE owner = %s", client.owner) == [(used + 760,)]


def test_a_title_without_a_cost_is_paid_at_the_listed_price(services: Services, upstream: Upstream) -> None:
    price = {"pricing": {"prompt": "0.001", "completion": "0.001", "request": "0"}}
    upstream.models = scenarios.models({"data": [{**scenarios.model("priced"), **price}]})
    with services.own(AUTO_TITLE="true") as service:
        client = Client(service, cost_per_month="100")
        caller, session = client.caller(), new_id()
        for text in ("Olá!", "Um cumprimento"):
            upstream.script(scenarios.ok(text, usage=scenarios.usage(20, 10, cost=None)))
        caller.chat("Oi", session_id=session, model="priced")
        wait_until(lambda: has_title(caller, session, "Um cumprimento"))
        costs = service.sql("SELECT cost FROM access_reservation WHERE owner = %s", client.owner)
    assert [round(float(cost), 6) for (cost,) in costs] == [0.03, 0.03]


@pytest.mark.django_db
def test_conversations_from_before_get_titles_too() -> None:
    migration = importlib.import_module("sessions_api.migrations.0007_titles")
    now = timezone.now()
    for name, text in (("a", LONG), ("b", "Oi"), ("c", None)):
        session = Session.objects.create(owner="open", session_id=name, created_at=now, last_activity_at=now)
        if text is not None:
            said = {"role": "user", "content": text, "status": "completed", "created_at": now}
            Message.objects.create(session=session, position=0, turn_id=name, **said)
    Session.objects.create(owner="open", session_id="d", title="Minha", created_at=now, last_activity_at=now)
    migration.entitle(apps, None)
    titles = dict(Session.objects.values_list("session_id", "title"))
    assert titles == {"a": title_of(LONG), "b": "Oi", "c": "", "d": "Minha"}


def test_where_another_model_answered_it_gives_the_title_too(services: Services, upstream: Upstream) -> None:
    upstream.otherwise = scenarios.by_model({"b": scenarios.ok("Do b")})
    caller = Caller(services.shared(AUTO_TITLE="true"))
    session = caller.chat("Oi", model="a", fallback_models=["b"])["session_id"]
    wait_until(lambda: caller.session(session)["title"] == "Do b")
    assert [request.body["model"] for request in upstream.requests] == ["a", "b", "b"]
