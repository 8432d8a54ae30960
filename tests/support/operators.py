"""Users of the admin for clients, keys and the audit log, and their requests."""

import functools
import re
from datetime import timedelta
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission, User
from django.test import Client as Browser

from access import clients
from access.models import AuditEntry, Client, Key
from testing.service import Service

CLIENTS, KEYS, AUDIT = "/admin/access/client/", "/admin/access/key/", "/admin/access/auditentry/"
DAY = timedelta(days=1)
NOBODY = clients.Operator("tests")
WHOLE = re.compile(r'<code id="whole-key" translate="no">(.*?)</code>')


hashed = functools.cache(make_password)  # slow by design


def superuser(service: Service, name: str, password: str) -> None:
    """A superuser of a service's admin, created without a separate process."""
    fields = "username, password, is_superuser, is_staff, is_active, first_name, last_name, email, date_joined"
    service.sql(
        f"INSERT INTO auth_user ({fields}) VALUES (%s, %s, %s, %s, %s, '', '', %s, '2026-01-01 00:00:00+00:00')",
        name, hashed(password), True, True, True, f"{name}@banco.example",
    )  # fmt: skip


def staff(*permissions: str, app: str = "access") -> Browser:
    """A user with these permissions in the app."""
    user = User.objects.create_user("operadora", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label=app))
    return logged_in(user)


def session_staff(*verbs: str) -> Browser:
    """A user who may view, change or delete sessions."""
    return staff(*(f"{verb}_session" for verb in verbs), app="sessions_api")


def logged_in(user: User) -> Browser:
    person = Browser(headers={"Accept-Language": "en"})
    person.force_login(user)
    return person


def text(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def made(name: str = "Portal", **fields: Any) -> Client:
    client = Client(name=name, **fields)
    clients.create(client, NOBODY)
    return client


def form(**changed: Any) -> dict[str, Any]:
    """The fields of the client's form, including empty ones."""
    empty = dict.fromkeys(("contact", "notes", *clients.LIMITS), "")
    return {"name": "Portal", "is_active": "on", "scopes": ["chat"], **empty, **changed}


def newest_entry() -> AuditEntry:
    return AuditEntry.objects.order_by("-pk")[0]


def page_of(record: Client | Key) -> str:
    return f"{CLIENTS if isinstance(record, Client) else KEYS}{record.pk}/change/"


def add_key(person: Browser, client: Client, **fields: str) -> Any:
    sent = {"client": client.pk, "label": "", "expires_at_0": "", "expires_at_1": "", **fields}
    return person.post(f"{KEYS}add/", sent)


def entry(action: str = "session.read", actor: str = "client:um/chave", **fields: Any) -> AuditEntry:
    return AuditEntry.objects.create(action=action, actor=actor, **fields)


def told(person: Browser, **query: str) -> list[AuditEntry]:
    response = person.get(AUDIT, query)
    text(response)
    return list(response.context["cl"].result_list)
