"""The list of running turns in the admin, and the button that stops one."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

import httpx
import pytest
from django.test import Client
from django.utils import timezone

from access.models import AuditEntry
from access.models import Client as AccessClient
from sessions_api.console import running
from sessions_api.models import Cancellation, Message, Session, new_public_id
from testing import scenarios
from testing.client import NO_TLS, PATIENCE, Caller, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.operators import session_staff
from tests.support.records import make_session

PAGE = "/admin/running/"
TABLE = f"{PAGE}?part=table"
in_database = pytest.mark.django_db(transaction=True)
MAKE_OPERATOR = """
from django.contrib.auth.models import User
User.objects.filter(username="mesa").exists() or User.objects.create_superuser("mesa", password="senha-da-mesa")
"""


def text(client: Client, page: str = PAGE) -> str:
    response = client.get(page)
    assert response.status_code == 200
    return str(response.content.decode())


def start(name: str, age: timedelta = timedelta(), **fields: Any) -> Message:
    """A turn that runs according to the record."""
    session = make_session(name, status="pending", **fields)
    reply = session.messages.get(position=1)
    now = timezone.now()
    reply.created_at, reply.heartbeat_at, reply.runner = now - age, now, "mesa/77:4321:1"
    reply.content = "um segredo"
    reply.save()
    return reply


@in_database
def test_it_shows_whose_turns_run_for_how_long_and_how_far_they_are() -> None:
    start("nova", model="m/novo")
    start("velha", timedelta(minutes=2), owner=AccessClient.objects.create(name="Mobile app").owner)
    make_session("parada")
    page = text(session_staff("view"))
    assert re.findall(r'change/">(.*?)</a>', page) == ["velha", "nova"]
    for shown in ("2 turns are running", "2 min ", "<td>10</td>", "Mobile app", "m/novo", "mesa:4321"):
        assert shown in page
    assert "segredo" not in page


@in_database
def test_a_turn_whose_process_has_gone_quiet_is_marked() -> None:
    reply = start("a")
    client = session_staff("view")
    assert "silent" not in text(client)
    Message.objects.filter(pk=reply.pk).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    assert "silent" in text(client)


@in_database
def test_who_may_not_see_sessions_sees_no_turns() -> None:
    reply = start("a")
    stop = f"{PAGE}{reply.turn_id}/cancel/"
    assert Client().get(TABLE)["Location"].startswith("/admin/login/")
    assert Client().post(stop)["Location"].startswith("/admin/login/")
    client = session_staff()
    assert [client.get(PAGE).status_code, client.get(TABLE).status_code, client.post(stop).status_code] == [403] * 3
    assert not Cancellation.objects.exists()


@in_database
def test_who_may_only_view_cannot_stop_a_turn() -> None:
    reply, client = start("a"), session_staff("view")
    assert "/cancel/" not in text(client)
    assert client.post(f"{PAGE}{reply.turn_id}/cancel/").status_code == 403
    assert not Cancellation.objects.exists()


@in_database
def test_stopping_asks_the_turns_process_and_tells_the_audit_log() -> None:
    reply, client = start("a"), session_staff("change")
    stop = f"{PAGE}{reply.turn_id}/cancel/"
    assert f'action="{stop}"' in text(client)
    assert client.get(stop).status_code == 405
    assert client.post(stop)["Location"] == PAGE
    assert list(Cancellation.objects.values_list("turn_id", flat=True)) == [reply.turn_id]
    entry = AuditEntry.objects.get(action="session.changed")
    assert (entry.actor, entry.target, entry.details) == ("staff:operadora", "a", {"cancelled": reply.turn_id})
    page = text(client)
    assert "stopping…" in page
    assert "/cancel/" not in page


@in_database
def test_a_turn_that_has_ended_meanwhile_is_left_alone() -> None:
    session, client = make_session("a"), session_staff("change")
    turn = session.messages.get(position=1).turn_id
    page = client.post(f"{PAGE}{turn}/cancel/", follow=True).content.decode()
    assert "The turn had ended already." in page
    assert not Cancellation.objects.exists()
    assert not AuditEntry.objects.filter(action="session.changed").exists()


@in_database
def test_stopping_needs_a_form_of_ours() -> None:
    reply, client = start("a"), session_staff("change")
    careful = Client(enforce_csrf_checks=True)
    careful.cookies = client.cookies
    assert careful.post(f"{PAGE}{reply.turn_id}/cancel/").status_code == 403


@in_database
def test_any_number_of_turns_takes_the_same_queries(monkeypatch: Any, django_assert_num_queries: Any) -> None:
    monkeypatch.setattr(running, "MAX_SHOWN", 5)
    client = session_staff("view")
    for number in range(7):
        start(f"s{number}", owner=f"client:{number}")
        if number in (1, 6):
            with django_assert_num_queries(6):  # login session, user, permissions (two), turns, clients
                page = text(client, TABLE)
    assert page.count('scope="row"') == 5
    assert "More than 5 turns" in page


@in_database
def test_names_that_others_chose_are_shown_and_never_executed() -> None:
    hostile = "<script>alert(1)</script>\"' onload=x"
    reply = start("a", model=hostile, owner=AccessClient.objects.create(name=hostile).owner)
    Session.objects.filter(pk=reply.session_id).update(session_id=hostile)
    page = text(session_staff("change"))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27; onload=x") == 4


@contextmanager
def operator_of(service: Service) -> Iterator[httpx.Client]:
    """Somebody who has logged in to the service's admin."""
    made = service.manage("shell", "--verbosity=0", "-c", MAKE_OPERATOR)
    assert made.returncode == 0, made.stderr
    with httpx.Client(
        base_url=service.url, timeout=PATIENCE, verify=NO_TLS, headers={"Accept-Language": "en"}
    ) as client:
        client.get("/admin/login/")
        fields = {
            "username": "mesa",
            "password": "senha-da-mesa",
            "csrfmiddlewaretoken": client.cookies["bancobot_csrftoken"],
        }
        assert client.post("/admin/login/", data=fields).status_code == 302
        yield client


def test_an_operator_stops_a_turn_of_a_running_service(service: Service, upstream: Upstream) -> None:
    caller, gate, session = Caller(service), Event(), new_public_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("e o fim"), after="O começo "))
    with operator_of(service) as operator, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(caller.chat, "Oi", session_id=session)
        wait_until(lambda: "<td>9</td>" in operator.get(TABLE).text)
        page = operator.get(PAGE).text
        turn, token = re.search(rf"{session}.*?running/([\w-]+)/cancel", page, re.DOTALL), csrf(page)
        assert turn
        health = operator.get("/admin/overview/").text
        assert "1 running, 0 in line" in health
        assert "<dd>answers</dd>" in health
        stopped = operator.post(f"{PAGE}{turn[1]}/cancel/", data={"csrfmiddlewaretoken": token})
        assert (stopped.status_code, stopped.headers["location"]) == (302, PAGE)
        assert asking.result()["finish_reason"] == "cancelled"
        gate.set()
        assert session not in operator.get(TABLE).text


def csrf(page: str) -> str:
    found = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]
