"""Django's admin for operators: clients, their keys, the audit log, and users."""

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session as LoginSession
from django.test import Client as Browser
from django.utils import timezone

from access import clients, keyring
from access.keyring import A_KEY, matches, read_keys
from access.models import Account, AuditEntry, Client, Key, RequestWindow, Reservation
from bancobot_project import admin_lists
from tests.browser import browser, needs_browser
from tests.client import Caller, good
from tests.conftest import MakeService

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS, KEYS, AUDIT = "/admin/access/client/", "/admin/access/key/", "/admin/access/auditentry/"
DAY = timedelta(days=1)
NOBODY = clients.Operator("tests")
WHOLE = re.compile(r'<code id="whole-key" translate="no">(.*?)</code>')


def staff(*permissions: str) -> Browser:
    """Somebody with these permissions for what the app `access` has."""
    user = User.objects.create_user("operadora", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label="access"))
    return logged_in(user)


def logged_in(user: User) -> Browser:
    person = Browser(headers={"Accept-Language": "en"})
    person.force_login(user)
    return person


@pytest.fixture
def operator() -> Browser:
    return logged_in(User.objects.create_superuser("chefe"))


def text(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def made(name: str = "Portal", **fields: Any) -> Client:
    client = Client(name=name, **fields)
    clients.create(client, NOBODY)
    return client


def form(**changed: Any) -> dict[str, Any]:
    """What the client's form sends; empty fields go along empty."""
    empty = dict.fromkeys(("contact", "notes", *clients.LIMITS), "")
    return {"name": "Portal", "is_active": "on", "scopes": ["chat"], **empty, **changed}


def newest_entry() -> AuditEntry:
    return AuditEntry.objects.order_by("-pk")[0]


def page_of(record: Client | Key) -> str:
    return f"{CLIENTS if isinstance(record, Client) else KEYS}{record.pk}/change/"


def add_key(person: Browser, client: Client, **fields: str) -> Any:
    sent = {"client": client.pk, "label": "", "expires_at_0": "", "expires_at_1": "", **fields}
    return person.post(f"{KEYS}add/", sent)


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
    client, now = made(tokens_per_day=10_000, cost_per_month=Decimal(5)), timezone.now()
    owner, today = client.owner, now.date()
    RequestWindow.objects.create(counted=owner, began_at=now, requests=7)
    Account.objects.create(owner=owner, day=today, tokens=1500, month=today.replace(day=1), cost=Decimal("1.25"))
    for turn, ended in (("a", False), ("b", False), ("c", True)):
        Reservation.objects.create(
            turn_id=turn, owner=owner, began_at=now, tokens=100, cost=Decimal("0.5"), ended=ended
        )
    assert [(use.used, use.limit) for use in clients.use_of(client)] == [
        (7, 0), (2, 0), (1600, 10_000), (Decimal("1.75"), 5),
    ]  # fmt: skip
    page = text(operator.get(page_of(client)))
    assert "<td>1,600</td><td>10,000</td>" in page
    Account.objects.update(day=today - DAY, month=(today.replace(day=1) - DAY).replace(day=1))
    Reservation.objects.update(began_at=now - 32 * DAY, ended=True)
    RequestWindow.objects.update(began_at=now - DAY)
    assert [use.used for use in clients.use_of(client)] == [0, 0, 0, 0]


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


# Who may do what


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


# The audit log


def entry(action: str = "session.read", actor: str = "client:um/chave", **fields: Any) -> AuditEntry:
    return AuditEntry.objects.create(action=action, actor=actor, **fields)


def told(person: Browser, **query: str) -> list[AuditEntry]:
    response = person.get(AUDIT, query)
    text(response)
    return list(response.context["cl"].result_list)


def test_the_log_is_shown_newest_first_with_who_what_which_whose_and_from_where(operator: Browser) -> None:
    AuditEntry.objects.purge(timezone.now() + DAY, 100)
    old = entry(at=timezone.now() - DAY)
    new = entry(target="s-1", owner="client:dono", address="10.1.2.3", details={"fields": ["title"]}, request_id="r-9")
    assert told(operator) == [new, old]
    row = text(operator.get(AUDIT))
    for shown in ("client:um/chave", "read a session", "s-1", "client:dono", "10.1.2.3"):
        assert shown in row
    page = text(operator.get(f"{AUDIT}{new.pk}/change/"))
    assert "r-9" in page
    assert "&quot;title&quot;" in page


def test_it_filters_by_action_and_period(operator: Browser) -> None:
    old, read = entry(at=timezone.now() - 2 * DAY, action="session.erased"), entry(at=timezone.now() - DAY / 2)
    assert told(operator, action__exact="session.read") == [read]
    assert told(operator, action__exact="session.erased") == [old]
    assert old not in told(operator, period="24h")
    assert read in told(operator, period="24h")
    assert told(operator, action__exact="session.erased", period="24h") == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("atendimento-1", ["a"]), ("atend", ["a", "b"]), ("client:um", ["a", "b"]), ("client:um/k1", ["a"]),
        ("client:42", ["c"]), ("staff:ma", ["c"]), ("command", ["d"]), ("ATEND", []), ("100%", ["d"]), ("%", []),
        ("_", []), ("'", []), ("", ["a", "b", "c", "d"]),
    ],
)  # fmt: skip
def test_it_finds_targets_and_actors_by_how_they_begin(operator: Browser, wanted: str, found: list[str]) -> None:
    AuditEntry.objects.purge(timezone.now() + DAY, 100)
    for name, actor, target in (
        ("a", "client:um/k1", "atendimento-1"), ("b", "client:um/k2", "atendimento-10"),
        ("c", "staff:maria", "client:42"), ("d", "command", "100%_"),
    ):  # fmt: skip
        entry(actor=actor, target=target, owner=name)
    assert sorted(each.owner for each in told(operator, q=wanted)) == found


def test_nobody_can_add_change_or_delete_an_entry(operator: Browser) -> None:
    kept = entry(target="s-1")
    page = f"{AUDIT}{kept.pk}"
    assert operator.get(f"{AUDIT}add/").status_code == 403
    assert operator.post(f"{page}/change/", {"target": "s-2"}).status_code == 403
    assert operator.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    operator.post(AUDIT, {"action": "delete_selected", "_selected_action": [kept.pk], "post": "yes"})
    assert AuditEntry.objects.get(pk=kept.pk).target == "s-1"


def test_long_logs_are_counted_up_to_a_bound(operator: Browser) -> None:
    AuditEntry.objects.bulk_create(
        (AuditEntry(actor="open", action="session.read") for _ in range(admin_lists.MOST_COUNTED + 20)), batch_size=1000
    )
    response = operator.get(AUDIT)
    text(response)
    assert response.context["cl"].result_count == admin_lists.MOST_COUNTED


# All of it


def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(
    operator: Browser, django_assert_num_queries: Any
) -> None:
    first = made("Primeiro")
    for path in (page_of(first), f"{KEYS}add/"):
        text(operator.get(path))  # the content types are asked for once a process
    expected = {
        CLIENTS: 5,  # login session, user, both counts, page
        KEYS: 6,  # and the clients to filter by
        f"{AUDIT}?q=atend": 5,  # login session, user, exact target, bounded count, page
        page_of(first): 7,  # login session, user, client, minute, account, turns, keys
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
    shown = {model.__name__ for model in admin.site._registry if model._meta.app_label == "access"}
    assert shown == {"Client", "Key", "AuditEntry"}


# Users and groups


def test_giving_rights_is_recorded_with_the_rights_as_they_are_afterwards(operator: Browser) -> None:
    password = "Uma-senha-longa-9"
    operator.post(
        "/admin/auth/user/add/",
        {"username": "nova", "usable_password": "true", "password1": password, "password2": password},
    )
    user = User.objects.get(username="nova")
    added = newest_entry()
    assert (added.action, added.actor, added.target) == ("user.changed", "staff:chefe", "user:nova")
    assert added.details["done"] == "added"
    group = Group.objects.create(name="Auditoria")
    right = Permission.objects.get(codename="view_auditentry")
    sent = {
        "username": "nova", "is_active": "on", "is_staff": "on", "groups": [group.pk], "user_permissions": [right.pk],
        "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00",
    }  # fmt: skip
    assert operator.post(f"/admin/auth/user/{user.pk}/change/", sent).status_code == 302
    rights = newest_entry().details["rights"]
    assert rights == {
        "active": True, "staff": True, "superuser": False, "groups": ["Auditoria"],
        "permissions": ["access.view_auditentry"],
    }  # fmt: skip
    other = {"usable_password": "true", "password1": password + "x", "password2": password + "x"}
    assert operator.post(f"/admin/auth/user/{user.pk}/password/", other).status_code == 302
    assert newest_entry().details["fields"] == ["password"]
    assert password not in str(AuditEntry.objects.values())


def test_changing_a_group_and_deleting_users_is_recorded(operator: Browser) -> None:
    right = Permission.objects.get(codename="change_key")
    operator.post("/admin/auth/group/add/", {"name": "Chaves", "permissions": [right.pk]})
    assert (newest_entry().action, newest_entry().target) == ("group.changed", "group:Chaves")
    assert newest_entry().details["rights"] == {"permissions": ["access.change_key"]}
    gone = [User.objects.create_user(name) for name in ("a", "b")]
    sent = {"action": "delete_selected", "_selected_action": [user.pk for user in gone], "post": "yes"}
    operator.post("/admin/auth/user/", sent)
    deleted = AuditEntry.objects.filter(action="user.changed", details__done="deleted")
    assert sorted(each.target for each in deleted) == ["user:a", "user:b"]


# In a real browser


@needs_browser
def test_a_browser_makes_a_client_and_a_key_and_revokes_it(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(ACCESS_MODE="keys")
    service.settings |= {"DJANGO_SUPERUSER_PASSWORD": "senha-de-teste-1"}
    service.manage("createsuperuser", "--noinput", "--username=chefe", "--email=c@banco.example")
    with browser(tmp_path) as page:
        page.go(f"{service.url}{CLIENTS}add/")
        page.fill("#id_username", "chefe")
        page.fill("#id_password", "senha-de-teste-1")
        page.click("[type=submit]", leads_on=True)
        page.fill("#id_name", "Portal")
        page.click("[name=scopes][value='sessions:erase']")
        page.click("[name=_continue]", leads_on=True)
        page.click("#keys .addlink", leads_on=True)
        page.fill("#id_label", "app")
        page.click("[name=_save]", leads_on=True)
        whole = page.run("document.querySelector('#whole-key').innerText")
        caller = Caller(service, key=whole)
        caller.chat("Oi", session_id="s")
        good(caller.call("DELETE", "/sessions/s?erase=true"))
        page.click("#content-main .button", leads_on=True)
        assert whole[:15] in page.text()
        assert whole not in page.run("document.documentElement.outerHTML")
        page.click("#keys .deletelink", leads_on=True)
        page.click("#content-main [type=submit]", leads_on=True)
        assert page.run("document.querySelectorAll('#keys .deletelink').length") == 0
        page.go(f"{service.url}{AUDIT}")
        done = page.run("[...document.querySelectorAll('td.field-action')].map(cell => cell.innerText)")
        assert done == ["revoked a key", "erased a session", "created a key", "created a client", "logged in"]
        assert page.text().count("staff:chefe") == 4
        assert [said for said in page.complaints if "favicon" not in said] == []
    assert whole.split("_")[2] not in service.log()


def test_a_secret_s_hash_cannot_be_asked_for_letter_by_letter(operator: Browser) -> None:
    key, _whole = keyring.new_key(Client.objects.create(name="Site"))
    assert operator.get(f"/admin/access/key/?identifier={key.identifier}").status_code == 200
    assert operator.get(f"/admin/access/key/?secret_hash__startswith={key.secret_hash[:2]}").status_code == 400
