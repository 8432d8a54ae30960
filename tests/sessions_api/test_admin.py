"""Django's admin for operators: the list of sessions, a session's page, closing and erasing."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone, translation

from access.admin_site import site
from sessions_api.admin import MAX_AT_ONCE, TRANSCRIPT_PAGE
from sessions_api.console.session_list import MAX_COUNTED, RECENT
from sessions_api.models import Feedback, IdempotencyKey, Lease, Message, Session
from sessions_api.search import catch_up
from tests.support.operators import logged_in, session_staff
from tests.support.records import add_turns, make_many, make_session

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/sessions_api/session/"
DAY = timedelta(days=1)


@pytest.fixture
def operator() -> Client:
    return logged_in(User.objects.create_superuser("chefe"))


def text(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def listed(client: Client, **query: str) -> list[str]:
    """The ids of the sessions on the list's page, in its order."""
    response = client.get(LIST, query)
    text(response)
    return [session.session_id for session in response.context["cl"].result_list]


def offered_models(client: Client, **query: str) -> list[str]:
    specs = client.get(LIST, query).context["cl"].filter_specs
    return next([str(label) for _, label in spec.lookup_choices] for spec in specs if spec.parameter_name == "model")


def page_of(session: Session) -> str:
    return f"{LIST}{session.pk}/change/"


def act(client: Client, action: str, *sessions: Session, **more: Any) -> Any:
    chosen = [session.pk for session in sessions]
    return client.post(LIST, {"action": action, "_selected_action": chosen, **more}, follow=True)


# Permissions


@pytest.mark.parametrize("path", ["", "1/change/", "1/delete/", "1/history/", "1/close/"])
def test_who_is_not_logged_in_is_sent_to_the_login_page(path: str) -> None:
    make_session()
    response = Client().get(LIST + path)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_staff_without_permission_see_no_sessions() -> None:
    assert session_staff().get(LIST).status_code == 403


def test_who_may_only_view_cannot_close_or_erase() -> None:
    session, client = make_session("fica"), session_staff("view")
    assert "fica" in text(client.get(LIST))
    page = text(client.get(page_of(session)))
    assert "/close/" not in page
    assert "/delete/" not in page
    for action in ("close_selected", "delete_selected"):
        act(client, action, session, post="yes")
    assert client.post(f"{LIST}{session.pk}/close/").status_code == 403
    assert client.post(f"{LIST}{session.pk}/delete/", {"post": "yes"}).status_code == 403
    session.refresh_from_db()
    assert session.closed_at is None


def test_who_may_change_sessions_can_close_but_not_erase() -> None:
    session, client = make_session(), session_staff("change")
    assert client.post(f"{LIST}{session.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{LIST}{session.pk}/close/").status_code == 302
    session.refresh_from_db()
    assert session.closed_at is not None


def test_nobody_can_add_or_edit_a_session(operator: Client) -> None:
    session = make_session("a", title="antes")
    assert operator.get(f"{LIST}add/").status_code == 403
    assert operator.post(page_of(session), {"title": "depois"}).status_code == 403
    assert 'name="title"' not in text(operator.get(page_of(session)))
    session.refresh_from_db()
    assert session.title == "antes"


def test_sessions_are_all_that_the_admin_shows_of_the_record() -> None:
    assert site.is_registered(Session)
    assert not site.is_registered(Message)
    assert not site.is_registered(Lease)


# The list


def test_the_list_shows_what_there_is_to_know_about_a_session(operator: Client) -> None:
    numbers: dict[str, Any] = {"prompt_tokens": 1200, "completion_tokens": 34, "cost": Decimal("0.00123")}
    make_session("abc", owner="byok:d1gest", title="Cartão", persona_id="gerente", model="m/x", turns=3, **numbers)
    row = text(operator.get(LIST))
    for shown in (
        "abc",
        "Cartão",
        "own provider key",
        "gerente",
        "m/x",
        ">6<",
        ">1234<",
        "0.001230",
        "completed",
        "open",
    ):
        assert shown in row
    assert "d1gest" not in row


def test_the_newest_activity_comes_first(operator: Client) -> None:
    for name, age in (("b", DAY), ("c", 2 * DAY), ("a", DAY / 2)):
        make_session(name, age=age)
    assert listed(operator) == ["a", "b", "c"]


def test_the_totals_are_those_of_the_filtered_list(operator: Client) -> None:
    for number in range(3):
        make_session(f"x{number}", model="m", turns=2, prompt_tokens=10, completion_tokens=1, cost=Decimal("0.5"))
    make_session(model="outro", prompt_tokens=1000)
    totals = operator.get(LIST, {"model": "m"}).context["cl"].paginator.totals
    assert totals == {
        "sessions": 3,
        "messages": 12,
        "prompt_tokens": 30,
        "completion_tokens": 3,
        "cost": Decimal("1.5"),
        "more": False,
    }


def test_long_lists_are_counted_up_to_a_bound(operator: Client) -> None:
    make_many(MAX_COUNTED + 20, message_count=2)
    page = operator.get(LIST)
    counted = {"sessions": MAX_COUNTED, "messages": 2 * MAX_COUNTED, "more": True}
    assert page.context["cl"].paginator.totals.items() >= counted.items()
    assert "Only the first 10,000 sessions" in text(page)


def test_yesterday_is_a_whole_day(operator: Client) -> None:
    now = timezone.now()
    today = now - now.replace(hour=0, minute=0, second=0, microsecond=0)
    for name, age in (("hoje", today / 2), ("ontem", today + DAY / 2), ("antes", today + DAY + DAY / 100)):
        make_session(name, age=age)
    assert listed(operator, active="yesterday") == ["ontem"]


@pytest.mark.parametrize(
    ("active", "expected"), [("1h", 1), ("24h", 2), ("7d", 3), ("30d", 4), ("", 5), ("nonsense", 5)]
)
def test_it_filters_by_activity(operator: Client, active: str, expected: int) -> None:
    for age in (DAY / 48, DAY / 2, 3 * DAY, 20 * DAY, 90 * DAY):
        make_session(age=age)
    assert len(listed(operator, active=active)) == expected


def test_it_filters_by_owner_kind(operator: Client) -> None:
    make_session("aberta")
    make_session("propria", owner="byok:openly")
    assert listed(operator, kind="open") == ["aberta"]
    assert listed(operator, kind="byok") == ["propria"]


def test_it_filters_by_model_and_offers_those_in_use(operator: Client) -> None:
    make_session("a", model="fornecedor/um")
    make_session("b")
    assert listed(operator, model="fornecedor/um") == ["a"]
    assert listed(operator, model="") == ["b"]
    assert offered_models(operator, model="raro") == ["server's default", "fornecedor/um", "raro"]


def test_the_offered_models_come_from_recent_sessions_alone(operator: Client) -> None:
    make_session(model="antigo", age=DAY)
    make_many(RECENT, model="novo")
    assert offered_models(operator) == ["novo"]


def test_it_filters_by_the_state_of_the_replies(operator: Client) -> None:
    for status in ("pending", "completed", "failed", "interrupted", "cancelled"):
        make_session(status, status=status)
    healed = make_session("healed", turns=2)
    healed.messages.filter(position=1).update(status="failed")
    assert listed(operator, replies="running") == ["pending"]
    assert set(listed(operator, replies="complete")) == {"completed", "healed"}
    assert set(listed(operator, replies="broken")) == {"failed", "interrupted"}
    assert set(listed(operator, replies="some-broken")) == {"failed", "interrupted", "healed"}


def test_it_filters_by_what_people_think_of_the_replies(operator: Client) -> None:
    for name, rating in (("boa", "up"), ("ruim", "down")):
        Feedback.objects.create(session=make_session(name), position=1, rating=rating, created_at=timezone.now())
    make_session("nada")
    assert listed(operator, feedback="down") == ["ruim"]
    assert listed(operator, feedback="up") == ["boa"]
    assert len(listed(operator, feedback="nonsense")) == 3


def test_it_filters_by_open_and_closed(operator: Client) -> None:
    make_session("aberta")
    make_session("fechada", closed_at=timezone.now())
    assert listed(operator, state="open") == ["aberta"]
    assert listed(operator, state="closed") == ["fechada"]


@pytest.mark.parametrize(
    "term", ["atendimento-1", "atend", "CARTÃO", "cartao", "limite do pix", "pix limi", "100%", "a_b", "<b>"]
)
def test_it_searches_ids_titles_and_messages(operator: Client, term: str) -> None:
    session = make_session("atendimento-1", title="cartão e CARTÃO", turns=0)
    add_turns(session, 3, "Qual é o limite do Pix? <b>100% a_b'</b>")
    other = make_session("outra", turns=0)
    add_turns(other, 2, "Bom dia 1000 axb", "Boa tarde")
    assert listed(operator, q=term) == ["atendimento-1"]


def test_a_whole_id_finds_that_session_alone(operator: Client) -> None:
    make_session("abc")
    make_session("abc-2")
    assert listed(operator, q="abc") == ["abc"]


def test_search_and_filters_go_together(operator: Client) -> None:
    make_session("a", title="Pix", model="um")
    make_session("b", title="Pix", model="dois")
    assert listed(operator, q="Pix", model="dois") == ["b"]


@pytest.mark.parametrize(
    "query", [{}, {"q": "Resposta"}, {"replies": "some-broken"}, {"state": "open", "active": "7d"}]
)
def test_the_number_of_queries_does_not_depend_on_the_number_of_sessions(
    operator: Client, query: dict[str, str], django_assert_num_queries: Any
) -> None:
    # Login session, user, audit entry, models in use, totals, page; a search first looks for an exact id.
    # SQLite first looks whether the index is up to date; PostgreSQL looks through the newest sessions. The words are
    # read once more for the messages that were found.
    searching = {"sqlite": 11, "postgresql": 7}[connection.vendor]
    expected = 6 + searching * ("q" in query)
    for number in range(30):
        make_session(status="failed", owner=f"byok:{number}", model=str(number))
        if number in (2, 29):
            catch_up(60)
            with django_assert_num_queries(expected):
                assert len(listed(operator, **query)) == number + 1


# The transcript


def test_the_transcript_stands_in_the_order_of_the_conversation(operator: Client) -> None:
    session = make_session(turns=6)
    Message.objects.filter(session=session, position=4).update(created_at=timezone.now() - DAY)
    page = text(operator.get(page_of(session)))
    expected = [f"{word} {number}" for number in range(6) for word in ("Pergunta", "Resposta")]
    assert re.findall(r'<div class="text">(.*?)</div>', page) == expected


def test_a_reply_is_shown_with_what_it_took(operator: Client) -> None:
    session = make_session()
    facts = {"model": "m/x", "prompt_tokens": 1500, "completion_tokens": 20, "cost": Decimal("0.00015")}
    session.messages.filter(role="assistant").update(
        **facts, latency_ms=810, first_token_ms=95, status="failed", error_code="provider_timeout"
    )
    page = text(operator.get(page_of(session)))
    for shown in ("m/x", "1,500 + 20 tokens", "US$ 0.000150", "810 ms", "first token after 95 ms", "provider_timeout"):
        assert shown in page


def test_what_people_think_of_a_reply_stands_beneath_it(operator: Client) -> None:
    session = make_session(turns=2)
    for position, rating, comment in ((1, "up", ""), (3, "down", "<b>Não</b> respondeu")):
        Feedback.objects.create(
            session=session, position=position, rating=rating, comment=comment, created_at=timezone.now()
        )
    replies = text(operator.get(page_of(session))).split('id="message-')[1:]
    assert ["opinion up" in reply for reply in replies] == [False, True, False, False]
    assert "opinion down" in replies[3]
    assert "&lt;b&gt;Não&lt;/b&gt; respondeu" in replies[3]


def test_superseded_messages_are_folded_where_they_stood(operator: Client) -> None:
    session = make_session(turns=4)
    session.messages.filter(position__in=[2, 3, 4, 5]).update(superseded_at=timezone.now())
    page = text(operator.get(page_of(session)))
    folded = re.findall(r'<details class="superseded"><summary>(.*?)</summary>(.*?)</ol>\s*</details>', page, re.DOTALL)
    assert [said for said, _ in folded] == ["4 superseded messages"]
    assert re.findall(r'<div class="text">(.*?)</div>', folded[0][1]) == [
        "Pergunta 1", "Resposta 1", "Pergunta 2", "Resposta 2"
    ]  # fmt: skip
    assert len(re.findall(r'<div class="text">', page)) == 8


HOSTILE = "<script>alert(1)</script> {{ 7|add:7 }} {% now 'Y' %} <img src=x onerror=alert(2)>\n  fim & \"aspas\""


def test_what_people_wrote_is_shown_and_never_executed(operator: Client) -> None:
    session = make_session(turns=0, title=HOSTILE[:200], persona_id=HOSTILE[:200], model=HOSTILE[:200])
    Session.objects.update(system_prompt=HOSTILE, metadata={"<script>": HOSTILE}, message_count=2)
    add_turns(session, 1)
    session.messages.update(content=HOSTILE, error_code="<script>", model=HOSTILE[:200])
    for path in (LIST, page_of(session)):
        page = text(operator.get(path))
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7|add:7 }} {% now &#x27;Y&#x27; %}" in text(operator.get(page_of(session)))


def test_the_pages_have_no_scripts_or_styles_of_their_own_within(operator: Client) -> None:
    session = make_session(turns=2)
    for path in (LIST, page_of(session)):
        page = text(operator.get(path))
        assert re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", page) == []
        assert "<style" not in page
        assert not re.search(r'\s(style|on[a-z]+)="', page)
        assert "sessions_api/admin.css" in page


def test_a_long_conversation_is_shown_in_pages_from_the_newest(operator: Client) -> None:
    session = make_session(turns=TRANSCRIPT_PAGE + 50)  # two messages each: two pages and a half
    shown = {}
    for page in ("", "1", "2", "3", "9", "x", "-1"):
        answer = text(operator.get(page_of(session), {"p": page}))
        texts = re.findall(r'<div class="text">(.*?)</div>', answer)
        shown[page] = (texts[0], texts[-1], len(texts))
    assert shown[""] == shown["1"] == shown["x"] == shown["-1"] == ("Pergunta 150", "Resposta 249", 200)
    assert shown["2"] == ("Pergunta 50", "Resposta 149", 200)
    assert shown["3"] == shown["9"] == ("Pergunta 0", "Resposta 49", 100)
    middle = text(operator.get(page_of(session), {"p": "2"}))
    assert 'href="?p=3"' in middle
    assert 'href="?p=1"' in middle


def test_a_search_leads_to_the_message_that_it_found(operator: Client) -> None:
    session = make_session("longa", turns=TRANSCRIPT_PAGE)  # two pages
    session.messages.filter(position=31).update(content="O cartão azul")
    titled = make_session("titulo", title="Cartão azul")
    catch_up(60)
    page = text(operator.get(LIST, {"q": "CARTAO azu"}))
    (link,) = re.findall(rf'href="({LIST}{session.pk}/change/[^"]*)"', page)
    address, _, place = unescape(link).partition("#")
    assert (place, dict(parse_qsl(urlsplit(address).query))["message"]) == ("message-31", "31")
    assert 'id="message-31"' in (shown := text(operator.get(address)))
    assert "O cartão azul" in shown
    assert 'href="?_changelist_filters=' in shown and "message=31" not in shown
    assert "message=" not in re.findall(rf'href="({LIST}{titled.pk}/change/[^"]*)"', page)[0]
    assert "message=" not in text(operator.get(LIST)) + text(operator.get(LIST, {"q": "longa"}))
    for wished in ("400", "-1", "x", "9999999999"):
        assert "Resposta 199" in text(operator.get(page_of(session), {"message": wished}))


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_transcript(
    operator: Client, django_assert_num_queries: Any
) -> None:
    text(operator.get(page_of(make_session())))  # each process reads the content types once
    for turns in (3, 30, 300):
        session = make_session(turns=turns)
        with django_assert_num_queries(6):  # login session, user, session, the audit log's entry, feedback, messages
            text(operator.get(page_of(session)))


# Closing


def test_closing_the_selected_sessions_leaves_the_others_open(operator: Client) -> None:
    first, second = make_session("a"), make_session("b")
    assert "1 session was closed." in text(act(operator, "close_selected", first))
    assert list(Session.objects.filter(closed_at=None)) == [second]


def test_a_sessions_page_has_a_button_to_close_it(operator: Client) -> None:
    session = make_session()
    address = f"{LIST}{session.pk}/close/"
    assert f'formaction="{address}"' in text(operator.get(page_of(session)))
    assert operator.get(address).status_code == 405
    assert operator.post(address).status_code == 302
    assert f'formaction="{address}"' not in text(operator.get(page_of(session)))


def test_closing_needs_a_form_of_ours(operator: Client) -> None:
    session = make_session()
    careful = Client(enforce_csrf_checks=True)
    careful.cookies = operator.cookies
    assert careful.post(f"{LIST}{session.pk}/close/").status_code == 403


def test_there_is_no_closing_where_it_would_erase_without_asking(operator: Client, settings: Any) -> None:
    settings.SESSION_CLOSED_RETENTION_HOURS = 0
    session = make_session()
    assert "close_selected" not in text(operator.get(LIST))
    act(operator, "close_selected", session)
    assert operator.post(f"{LIST}{session.pk}/close/").status_code == 403
    assert Session.objects.filter(closed_at=None).exists()


# Erasing


def test_erasing_selected_sessions_asks_and_then_leaves_nothing_of_them(operator: Client) -> None:
    gone, kept = make_session("a", title="segredo", turns=4), make_session("b")
    question = text(act(operator, "delete_selected", gone))
    assert gone.session_id in question
    assert "segredo" not in question  # the titles of sessions are shown where the audit log says so
    assert "Messages: 8" in question
    assert Session.objects.count() == 2
    act(operator, "delete_selected", gone, post="yes")
    assert list(Session.objects.all()) == [kept]
    assert set(Message.objects.values_list("session_id", flat=True)) == {kept.pk}


def test_erasing_from_a_sessions_page_does_the_same(operator: Client) -> None:
    session = make_session("a", turns=600)
    assert "Messages: 1200" in text(operator.get(f"{LIST}{session.pk}/delete/"))
    assert operator.post(f"{LIST}{session.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (Session.objects.count(), Message.objects.count()) == (0, 0)


def test_an_erased_session_s_idempotency_keys_go_with_it(operator: Client) -> None:
    session = make_session("a")
    IdempotencyKey.objects.create(
        owner="open", key="k", fingerprint="f", turn_id="t", session=session, created_at=session.created_at
    )
    assert operator.get(f"{LIST}{session.pk}/delete/").status_code == 200
    assert operator.post(f"{LIST}{session.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (Session.objects.count(), IdempotencyKey.objects.count()) == (0, 0)


def test_a_session_whose_reply_is_being_written_can_be_erased(operator: Client) -> None:
    session = make_session(status="pending")
    operator.post(f"{LIST}{session.pk}/delete/", {"post": "yes"})
    assert (Session.objects.count(), Message.objects.count()) == (0, 0)


def test_the_admins_log_says_who_did_it_but_keeps_no_text(operator: Client) -> None:
    first, second = make_session("a", title="segredo"), make_session("b", title="segredo")
    act(operator, "close_selected", first, second)
    operator.post(f"{LIST}{first.pk}/delete/", {"post": "yes"})
    act(operator, "delete_selected", second, post="yes")
    entries = LogEntry.objects.values_list("user__username", "object_repr")
    assert sorted(entries) == [("chefe", "a"), ("chefe", "a"), ("chefe", "b"), ("chefe", "b")]


def test_asking_before_erasing_takes_the_same_queries_for_any_length(
    operator: Client, django_assert_num_queries: Any
) -> None:
    for turns in (3, 500):
        session = make_session(turns=turns)
        with django_assert_num_queries(3):  # login session, user, session
            text(operator.get(f"{LIST}{session.pk}/delete/"))


def test_too_many_sessions_at_once_are_refused(operator: Client) -> None:
    chosen = make_many(MAX_AT_ONCE + 1)[0]
    for action in ("delete_selected", "close_selected"):
        page = text(act(operator, action, chosen, select_across="1", post="yes"))
        assert f"At most {MAX_AT_ONCE} sessions at once" in page
    assert Session.objects.filter(closed_at=None).count() == MAX_AT_ONCE + 1


def test_all_sessions_of_a_filtered_list_can_be_erased(operator: Client) -> None:
    for number in range(130):  # more than a page
        make_session(str(number), model="m")
    kept = make_session("fica")
    everything = {"action": "delete_selected", "select_across": "1", "_selected_action": [kept.pk]}
    question = operator.post(f"{LIST}?model=m", everything)
    chosen = re.findall(r'name="_selected_action" value="(\d+)"', text(question))
    assert len(chosen) == 130
    operator.post(f"{LIST}?model=m", {"action": "delete_selected", "_selected_action": chosen, "post": "yes"})
    assert list(Session.objects.all()) == [kept]


# The language


def test_the_admin_is_called_bancobot() -> None:
    with translation.override("pt-br"):
        assert "BancoBot" in text(Client().get("/admin/login/"))
