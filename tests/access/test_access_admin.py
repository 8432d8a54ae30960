"""Django's admin for operators: clients and their keys."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session as LoginSession
from django.test import Client as Browser
from django.utils import timezone

from access import clients
from access.keyring import A_KEY, matches, read_keys
from access.models import Account, AuditEntry, Client, Key, RequestWindow, Reservation, Stored, StoredChange
from tests.support.operators import (
    AUDIT,
    CLIENTS,
    DAY,
    KEYS,
    NOBODY,
    WHOLE,
    add_key,
    form,
    made,
    newest_entry,
    page_of,
    text,
)

pytestmark = pytest.mark.django_db(transaction=True)


# Clients


def test_a_client_is_created_with_the_scopes_that_are_ticked(operator: Browser) -> None:
    page = text(operator.get(f"{CLIENTS}add/"))
    assert len(re.findall(r'<input type="checkbox" name="scopes"', page)) == 5
    assert "<code>sessions:erase</code>: erase its own sessions at once" in page
    assert operator.post(f"{CLIENTS}add/", form(scopes=["chat", "admin:read"], tokens_per_day="0")).status_code == 302
    client = Client.objects.get()
    assert (client.name, client.scopes) == ("Portal", ["chat", "admin:read"])
    assert (client.tokens_per_day, client.requests_per_minute) == (0, None)
    entry = newest_entry()
    assert (entry.action, entry.actor, entry.target) == ("client.created", "staff:chefe", "Portal")
    assert (entry.owner, entry.address) == (client.owner, "127.0.0.1")


def test_a_change_is_stored_and_recorded_once(operator: Browser) -> None:
    client = made(scopes=["chat"])
    assert operator.post(page_of(client), form(scopes=["chat", "sessions:read"], notes="n")).status_code == 302
    client.refresh_from_db()
    assert (client.scopes, client.notes) == (["chat", "sessions:read"], "n")
    entry = AuditEntry.objects.get(action="client.changed")
    assert entry.actor == "staff:chefe"
    assert entry.details["was_and_is"] == {"scopes": [["chat"], ["chat", "sessions:read"]]}
    operator.post(page_of(client), form(scopes=["chat", "sessions:read"], notes="n"))
    assert AuditEntry.objects.filter(action="client.changed").count() == 1


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"scopes": ["tudo"]}, {"cost_per_month": "-1"}, {"tokens_per_day": "muitos"}]
)
def test_what_makes_no_client_is_shown_again_with_the_fault(operator: Browser, wrong: dict[str, Any]) -> None:
    assert "errornote" in text(operator.post(f"{CLIENTS}add/", form(**wrong)))
    assert not Client.objects.exists()


def test_the_limits_say_what_an_empty_one_means(operator: Browser, settings: Any) -> None:
    settings.OWNER_REQUESTS_PER_MINUTE, settings.OWNER_TOKENS_PER_DAY = 77, 0
    page = text(operator.get(f"{CLIENTS}add/"))
    assert "as the setting OWNER_REQUESTS_PER_MINUTE says (now 77). 0: no limit." in page
    assert "as the setting OWNER_TOKENS_PER_DAY says (now no limit). 0: no limit." in page


def test_the_list_counts_usable_keys_and_says_when_one_was_used(operator: Browser) -> None:
    client = made(contact="ana@banco.example", scopes=["chat", "sessions:read"])
    for expires_at in (None, timezone.now() + DAY, timezone.now() - DAY):
        clients.new_key(client, NOBODY, expires_at=expires_at)
    clients.revoke(clients.new_key(client, NOBODY)[0], NOBODY)
    Key.objects.update(last_used_at=timezone.now().replace(year=2025, month=1, day=2))
    made("Vazio", is_active=False)
    page = text(operator.get(CLIENTS))
    cells = [re.findall(rf'field-{name}[^"]*">(.*?)</t', page) for name in ("name", "usable_keys", "last_used")]
    assert [re.sub("<.*?>", "", name) for name in cells[0]] == ["Portal", "Vazio"]
    assert cells[1] == ["2", "0"]
    assert [used[:12] for used in cells[2]] == ["Jan. 2, 2025", "-"]
    assert "chat, sessions:read" in page


def test_clients_cannot_be_deleted_not_even_by_superusers(operator: Browser) -> None:
    client = made()
    assert operator.post(f"{CLIENTS}{client.pk}/delete/", {"post": "yes"}).status_code == 403
    operator.post(CLIENTS, {"action": "delete_selected", "_selected_action": [client.pk], "post": "yes"})
    assert Client.objects.exists()


def test_a_client_s_page_says_what_is_used_of_its_limits(operator: Browser) -> None:
    client, now = made(tokens_per_day=10_000, cost_per_month=Decimal(5), stored_mb=500), timezone.now()
    owner, today = client.owner, now.date()
    RequestWindow.objects.create(counted=owner, began_at=now, requests=7)
    Account.objects.create(owner=owner, day=today, tokens=1500, month=today.replace(day=1), cost=Decimal("1.25"))
    for turn, ended in (("a", False), ("b", False), ("c", True)):
        Reservation.objects.create(
            turn_id=turn, owner=owner, began_at=now, tokens=100, cost=Decimal("0.5"), ended=ended
        )
    Stored.objects.create(owner=owner, sessions=5, size=2_600_000)
    StoredChange.objects.create(owner=owner, sessions=-1, size=-100_000)
    assert [(use.used, use.limit) for use in clients.use_of(client)] == [
        (7, 0), (2, 0), (1600, 10_000), (Decimal("1.75"), 5), (4, 0), (Decimal("2.5"), 500),
    ]  # fmt: skip
    page = text(operator.get(page_of(client)))
    assert "<td>1,600</td><td>10,000</td>" in page
    Account.objects.update(day=today - DAY, month=(today.replace(day=1) - DAY).replace(day=1))
    Reservation.objects.update(began_at=now - 32 * DAY, ended=True)
    RequestWindow.objects.update(began_at=now - DAY)
    assert [use.used for use in clients.use_of(client)] == [0, 0, 0, 0, 4, Decimal("2.5")]


# Keys


def test_a_new_key_is_shown_once_and_kept_nowhere(operator: Browser) -> None:
    client = made()
    answer = add_key(operator, client, label="app", expires_at_0="2099-01-31", expires_at_1="12:00:00")
    [whole] = WHOLE.findall(text(answer))
    assert A_KEY.fullmatch(whole)
    key = Key.objects.get()
    known = read_keys([key.identifier])[0]
    assert known is not None
    assert matches(known, whole)
    assert (key.client, key.label, f"{key.expires_at:%Y-%m-%d %H:%M}") == (client, "app", "2099-01-31 12:00")
    assert "no-store" in answer["Cache-Control"]
    secret = whole.split("_")[2]
    for path in (page_of(client), page_of(key), f"{KEYS}{key.pk}/history/", KEYS, AUDIT, "/admin/"):
        assert secret not in text(operator.get(path)), path
    for model in (Key, AuditEntry, LogEntry, LoginSession):
        assert secret not in str(list(model.objects.values()))
    assert [secret in str(session.get_decoded()) for session in LoginSession.objects.all()] == [False]
    assert secret not in str(operator.cookies)
    assert LogEntry.objects.get(content_type__model="key").object_repr == f"bb_{key.identifier}_…"


def test_a_new_key_is_recorded_once(operator: Browser) -> None:
    client = made()
    add_key(operator, client, label="app")
    entry, key = AuditEntry.objects.get(action="key.created"), Key.objects.get()
    assert (entry.actor, entry.target, entry.owner) == ("staff:chefe", f"bb_{key.identifier}", client.owner)


def test_a_key_that_has_expired_already_is_not_made(operator: Browser) -> None:
    page = text(add_key(operator, made(), expires_at_0="2020-01-31", expires_at_1="12:00:00"))
    assert "That is over." in page
    assert not Key.objects.exists()


def test_a_client_s_page_leads_to_its_keys(operator: Browser) -> None:
    client = made()
    key = clients.new_key(client, NOBODY, "app")[0]
    page = text(operator.get(page_of(client)))
    for address in (f"{KEYS}add/?client={client.pk}", f"{KEYS}{key.pk}/revoke/", page_of(key)):
        assert f'href="{address}"' in page
    selected = re.search(r'<option value="(\d+)" selected', text(operator.get(f"{KEYS}add/?client={client.pk}")))
    assert selected is not None
    assert selected[1] == str(client.pk)


def test_revoking_asks_first_and_takes_a_form_of_ours(operator: Browser) -> None:
    key = clients.new_key(made(), NOBODY, "app")[0]
    address = f"{KEYS}{key.pk}/revoke/"
    assert "label: app" in text(operator.get(address))
    careful = Browser(enforce_csrf_checks=True)
    careful.cookies = operator.cookies
    assert careful.post(address).status_code == 403
    assert Key.objects.get().revoked_at is None
    assert operator.post(address)["Location"] == page_of(key.client)
    assert Key.objects.get().revoked_at is not None
    assert address not in text(operator.get(page_of(key)))
    operator.post(address)
    entry = AuditEntry.objects.get(action="key.revoked")
    assert (entry.actor, entry.target) == ("staff:chefe", f"bb_{key.identifier}")


def test_nobody_can_edit_or_delete_a_key(operator: Browser) -> None:
    key = clients.new_key(made(), NOBODY, "antes")[0]
    assert operator.post(page_of(key), {"label": "depois"}).status_code == 403
    assert operator.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "secret_hash" not in text(operator.get(page_of(key)))
    assert Key.objects.get().label == "antes"


def test_keys_are_filtered_by_client_and_state_and_found_by_any_of_their_names(operator: Browser) -> None:
    portal, outro = made(), made("Outro")
    usable, whole = clients.new_key(portal, NOBODY)
    expired = clients.new_key(portal, NOBODY, expires_at=timezone.now() - DAY)[0]
    revoked = clients.new_key(outro, NOBODY, "antiga")[0]
    clients.revoke(revoked, NOBODY)

    def listed(**query: Any) -> list[Key]:
        response = operator.get(KEYS, query)
        text(response)
        return list(response.context["cl"].result_list)

    for state, key in (("usable", usable), ("expired", expired), ("revoked", revoked)):
        assert listed(state=state) == [key]
    assert len(listed(state="nada")) == 3
    assert listed(client__id__exact=outro.pk) == [revoked]
    for wanted in (usable.identifier, f"bb_{usable.identifier}", str(usable), whole):
        assert listed(q=wanted) == [usable]
    assert listed(q="antiga") == listed(q="Outro") == [revoked]
