"""The admin for clients, keys and the audit log: permissions, queries, and hostile texts."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser

from access import clients
from access.admin_site import site
from access.models import Key
from tests.support.operators import (
    AUDIT,
    CLIENTS,
    KEYS,
    NOBODY,
    WHOLE,
    add_key,
    entry,
    form,
    made,
    page_of,
    staff,
    text,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_staff_without_permission_see_nothing() -> None:
    person, key = staff(), clients.new_key(made(), NOBODY)[0]
    for path in (CLIENTS, KEYS, AUDIT, page_of(key), page_of(key.client), f"{KEYS}{key.pk}/revoke/"):
        assert person.get(path).status_code == 403, path


def test_who_may_only_view_changes_nothing() -> None:
    person, key = staff("view_client", "view_key"), clients.new_key(made(scopes=["chat"]), NOBODY)[0]
    page = text(person.get(page_of(key.client)))
    assert f"{KEYS}add/" not in page
    assert "/revoke/" not in page
    assert 'name="scopes"' not in page
    assert person.post(page_of(key.client), form(name="Outro")).status_code == 403
    assert person.post(f"{CLIENTS}add/", form(name="Outro")).status_code == 403
    assert add_key(person, key.client).status_code == 403
    assert person.post(f"{KEYS}{key.pk}/revoke/").status_code == 403
    key.refresh_from_db()
    assert (key.revoked_at, key.client.name, Key.objects.count()) == (None, "Portal", 1)


def test_who_may_add_keys_cannot_revoke_them_and_the_reverse() -> None:
    adding, key = staff("add_key"), clients.new_key(made(), NOBODY)[0]
    assert WHOLE.search(text(add_key(adding, key.client)))
    assert adding.post(f"{KEYS}{key.pk}/revoke/").status_code == 403
    User.objects.all().delete()
    revoking = staff("change_key")
    assert add_key(revoking, key.client).status_code == 403
    assert revoking.post(f"{KEYS}{key.pk}/revoke/").status_code == 302


def test_who_is_not_logged_in_is_sent_to_the_login_page() -> None:
    key = clients.new_key(made(), NOBODY)[0]
    for path in (CLIENTS, KEYS, AUDIT, f"{KEYS}{key.pk}/revoke/"):
        assert Browser().get(path)["Location"].startswith("/admin/login/")


# All of it


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(
    operator: Browser, django_assert_num_queries: Any
) -> None:
    first = made("Primeiro")
    for path in (page_of(first), f"{KEYS}add/"):
        text(operator.get(path))  # each process reads the content types once
    expected = {
        CLIENTS: 5,  # login session, user, both counts, page
        KEYS: 6,  # and the clients to filter by
        f"{AUDIT}?q=atend": 5,  # login session, user, exact target, bounded count, page
        page_of(first): 9,  # login session, user, client, minute, account, turns, what is stored and its changes, keys
        f"{KEYS}add/": 3,  # and the clients to choose from
    }
    for number in range(30):
        key = clients.new_key(first, NOBODY, str(number))[0]
        clients.new_key(made(f"c{number}"), NOBODY)
        entry(target=f"atendimento-{number}")
        if number in (2, 29):
            for path, queries in {**expected, page_of(key): 4}.items():
                with django_assert_num_queries(queries, info=path):
                    text(operator.get(path))


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_what_operators_and_callers_write_is_never_executed(operator: Browser) -> None:
    client = made(HOSTILE, contact=HOSTILE, notes=HOSTILE)
    key = clients.new_key(client, NOBODY, HOSTILE)[0]
    hostile = entry(actor="staff:" + HOSTILE, target=HOSTILE, details={"a": HOSTILE})
    pages = [
        operator.get(path)
        for path in (
            CLIENTS, KEYS, AUDIT, page_of(client), page_of(key), f"{KEYS}{key.pk}/revoke/", f"{KEYS}add/",
            f"{AUDIT}{hostile.pk}/change/",
        )
    ]  # fmt: skip
    for page in map(text, [*pages, add_key(operator, client, label=HOSTILE)]):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", page) == []
        assert "<style" not in page
        assert not re.search(r'\s(style|on[a-z]+)="', page)


def test_what_the_admin_shows_of_access_is_clients_keys_and_the_log() -> None:
    shown = {model.__name__ for model in site._registry if model._meta.app_label == "access"}
    assert shown == {"Client", "Key", "AuditEntry"}
