"""The audit log in Django's admin: its pages, and its entries about users and groups."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client as Browser
from django.utils import timezone

from access.models import AuditEntry
from tests.support.operators import AUDIT, DAY, entry, newest_entry, text, told
from web import modeladmin

pytestmark = pytest.mark.django_db(transaction=True)


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
        (AuditEntry(actor="open", action="session.read") for _ in range(modeladmin.MAX_COUNTED + 20)), batch_size=1000
    )
    response = operator.get(AUDIT)
    text(response)
    assert response.context["cl"].result_count == modeladmin.MAX_COUNTED


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
