"""Exports from the admin's list."""

import csv
import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from access.models import AuditEntry
from sessions_api.console.exports import MAX_AT_ONCE
from sessions_api.exports.formats import FORMATS
from sessions_api.models import Session
from tests.support.exported import objects, talk
from tests.support.operators import session_staff, text
from tests.support.records import make_many

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/sessions_api/session/"


def export(client: Client, name: str, *sessions: Session, **more: Any) -> Any:
    chosen = [session.pk for session in sessions]
    return client.post(LIST, {"action": f"export_{name}", "_selected_action": chosen, **more})


def content(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


@pytest.mark.parametrize("name", FORMATS)
def test_the_selected_sessions_come_as_a_file(name: str) -> None:
    chosen, other = talk("Olá, bot", "Olá", persona_id="p1"), talk("SEGREDO", "Olá", session_id="outra")
    response = export(session_staff("view"), name, chosen)
    assert response["Content-Type"].startswith(FORMATS[name].content_type)
    assert response["Content-Disposition"].startswith('attachment; filename="bancobot-2')
    said = content(response)
    assert ("p1" if name == "events" else "Olá, bot") in said
    assert "SEGREDO" not in said
    assert other.session_id not in said


def test_each_session_that_is_exported_is_in_the_audit_log() -> None:
    sessions = [talk("Oi", "Olá"), talk("Oi", "Olá", session_id="bia", owner="client:x")]
    assert len(objects(content(export(session_staff("view"), "jsonl", *sessions)))) == 2
    entries = AuditEntry.objects.filter(action="sessions.exported").order_by("target")
    assert [(e.actor, e.target, e.owner, e.details) for e in entries] == [
        ("staff:operadora", "ana", "open", {"format": "jsonl"}),
        ("staff:operadora", "bia", "client:x", {"format": "jsonl"}),
    ]


def test_who_may_read_may_export_and_nobody_else() -> None:
    session = talk("SEGREDO", "Olá")
    assert 'value="export_csv"' in text(session_staff("view").get(LIST))
    User.objects.all().delete()
    assert export(session_staff("delete"), "csv", session).status_code == 403
    assert AuditEntry.objects.filter(action="sessions.exported").count() == 0


def test_more_than_a_page_can_be_chosen_but_not_without_end() -> None:
    sessions = make_many(MAX_AT_ONCE + 1)
    client = session_staff("view")
    response = export(client, "csv", sessions[0], select_across="1")
    assert response.status_code == 302
    assert "At most 500 sessions at once" in text(client.get(LIST))
    Session.objects.filter(pk=sessions[0].pk).delete()
    response = export(client, "csv", sessions[1], select_across="1")
    assert list(csv.reader(io.StringIO(content(response))))[1:] == []
    assert AuditEntry.objects.filter(action="sessions.exported").count() == MAX_AT_ONCE
