"""The audit log: its entries, what they never contain, and that nobody can change them."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access import audit
from access.admin.audit import search
from access.models import AuditEntry
from testing.client import NO_TLS, Caller, good, new_id, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.keys import Client
from tests.support.operators import superuser
from tests.support.records import make_session
from tests.support.services import Services

SCOPES = ("chat", "sessions:read", "sessions:write", "sessions:erase", "admin:read")
DAY = timedelta(days=1)
PASSWORD = "senha-de-teste-1"
FIELDS = ("action", "actor", "target", "owner", "address", "request_id")


def told(service: Service, after: int = 0, **values: str) -> list[tuple[str, ...]]:
    """The entries with these values and a later number, as FIELDS, oldest first."""
    where = "".join(f" AND {name} = %s" for name in values)
    columns = ", ".join(FIELDS)
    return service.sql(
        f"SELECT {columns} FROM access_auditentry WHERE id > %s{where} ORDER BY id", after, *values.values()
    )


def newest(service: Service) -> int:
    """The number of the last entry."""
    [(number,)] = service.sql("SELECT COALESCE(MAX(id), 0) FROM access_auditentry")
    return int(number)


@dataclass
class Member:
    """A caller with a client's key."""

    caller: Caller
    owner: str
    actor: str


def member(service: Service, *scopes: str) -> Member:
    client = Client(service, scopes)
    key = client.key()
    return Member(Caller(service, key.whole), client.owner, f"{client.owner}/{key.identifier}")


def made_by_command(service: Service, *scopes: str) -> Member:
    name = f"cliente-{new_id()}"
    asked = [f"--scope={scope}" for scope in scopes]
    created = service.manage("create_client", name, *asked, "--key")
    assert created.returncode == 0, created.stderr
    whole = created.stdout.strip()
    [(client_id,)] = service.sql("SELECT client_id FROM access_client WHERE name = %s", name)
    owner = f"client:{client_id}"
    return Member(Caller(service, key=whole), owner, f"{owner}/{whole.split('_')[1]}")


@pytest.fixture(scope="module")
def running(services: Services) -> Service:
    return services.shared()


@pytest.fixture(scope="module")
def someone(running: Service) -> Member:
    """A client that may do everything with its own sessions."""
    return member(running, *SCOPES[:4])


@pytest.fixture(scope="module")
def reader(running: Service) -> Member:
    return member(running, "admin:read")


@pytest.fixture(scope="module")
def chief(running: Service) -> str:
    return chief_of(running)


# By the API


def test_what_a_client_does_to_its_session_leaves_one_entry_each(service: Service, someone: Member) -> None:
    for method, path, body, action in (
        ("GET", "/sessions/{}", None, "session.read"),
        ("GET", "/sessions/{}/messages", None, "session.read"),
        ("PATCH", "/sessions/{}", {"title": "novo"}, "session.changed"),
        ("DELETE", "/sessions/{}", None, "session.closed"),
        ("DELETE", "/api/sessions/{}", None, "session.closed"),
        ("DELETE", "/sessions/{}?erase=true", None, "session.erased"),
    ):
        session = new_id()
        someone.caller.chat("Oi", session_id=session)
        answer = someone.caller.call(method, path.format(session), json=body)
        good(answer)
        entry = (action, someone.actor, session, someone.owner, "127.0.0.1", answer.headers["x-request-id"])
        assert told(service, target=session) == [entry], (method, path)


def test_what_is_refused_or_not_there_leaves_none(service: Service, someone: Member) -> None:
    talking, session = member(service, "chat"), new_id()
    talking.caller.chat("Oi", session_id=session)
    problem(talking.caller.get(f"/sessions/{session}"), 403, "permission_denied")
    problem(talking.caller.call("DELETE", f"/sessions/{session}"), 403, "permission_denied")
    problem(someone.caller.get(f"/sessions/{session}"), 404, "session_not_found")
    problem(someone.caller.call("DELETE", f"/sessions/{session}?erase=true"), 404, "session_not_found")
    assert told(service, target=session) == []


def test_an_owner_s_name_of_any_length_can_be_asked_for(service: Service, reader: Member) -> None:
    before = newest(service)
    assert good(reader.caller.get("/sessions", owner="x" * 500))["data"] == []
    assert [entry[3] for entry in told(service, before, actor=reader.actor)] == ["x" * 80]


def test_listing_one_s_own_sessions_is_nobody_s_business(service: Service, someone: Member) -> None:
    before = newest(service)
    good(someone.caller.get("/sessions"))
    good(someone.caller.get("/api/sessions"))
    assert told(service, before, actor=someone.actor) == []


def test_an_open_caller_s_reading_leaves_none_but_a_change_does(service: Service) -> None:
    caller, session = Caller(service, key=""), new_id()
    caller.chat("Oi", session_id=session)
    caller.session(session)
    caller.messages(session)
    assert told(service, target=session) == []
    good(caller.call("PATCH", f"/sessions/{session}", json={"title": "t"}))
    good(caller.call("DELETE", f"/sessions/{session}"))
    assert [entry[:4] for entry in told(service, target=session)] == [
        ("session.changed", "open", session, "open"), ("session.closed", "open", session, "open"),
    ]  # fmt: skip


# By the admin


@contextmanager
def admin(service: Service) -> Iterator[httpx.Client]:
    headers = {"Referer": f"{service.url}/admin/", "Accept-Language": "en"}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False, verify=NO_TLS) as client:
        yield client


def send(client: httpx.Client, path: str, **form: str) -> httpx.Response:
    """A form of a page, with the token that the page gave."""
    client.get("/admin/login/")
    return client.post(path, data={"csrfmiddlewaretoken": client.cookies[settings.CSRF_COOKIE_NAME], **form})


def log_in(client: httpx.Client, username: str, password: str = PASSWORD) -> httpx.Response:
    return send(client, "/admin/login/", username=username, password=password, next="/admin/")


def chief_of(service: Service) -> str:
    name = f"chefe-{secrets.token_hex(4)}"
    superuser(service, name, PASSWORD)
    return name


def test_what_staff_do_to_a_session_leaves_one_entry_each(service: Service, someone: Member, chief: str) -> None:
    with admin(service) as client:
        assert log_in(client, chief).status_code == 302
        for verb, action in (("change", "session.read"), ("close", "session.closed"), ("delete", "session.erased")):
            session = new_id()
            someone.caller.chat("Oi", session_id=session)
            [(pk,)] = service.sql("SELECT id FROM sessions_api_session WHERE session_id = %s", session)
            path = f"/admin/sessions_api/session/{pk}/{verb}/"
            answer = client.get(path) if verb == "change" else send(client, path, post="yes")
            assert answer.status_code in (200, 302)
            entry = (action, f"staff:{chief}", session, someone.owner, "127.0.0.1", answer.headers["x-request-id"])
            assert told(service, target=session) == [entry], verb


def test_logging_in_out_and_in_vain_is_told(service: Service, chief: str) -> None:
    before = newest(service)
    with admin(service) as client:
        assert log_in(client, chief, "errada").status_code == 200
        assert log_in(client, chief).status_code == 302
        assert send(client, "/admin/logout/").status_code == 200
    entries = told(service, before, actor=f"staff:{chief}")
    assert [entry[0] for entry in entries] == ["login.failed", "login", "logout"]
    assert {entry[2:5] for entry in entries} == {("", "", "127.0.0.1")}


def test_a_name_that_nobody_has_is_not_kept_since_it_may_be_a_password(service: Service) -> None:
    typed = f"senha-{secrets.token_hex(8)}"
    before = newest(service)
    with admin(service) as client:
        answer = log_in(client, typed, "x")
        assert answer.status_code == 200
    [entry] = told(service, before, action="login.failed")
    assert entry == ("login.failed", "", "", "", "127.0.0.1", answer.headers["x-request-id"])
    assert typed not in str(service.sql("SELECT * FROM access_auditentry"))


def test_being_locked_out_is_told_once(make_service: MakeService) -> None:
    service = make_service(ADMIN_LOGIN_TRIES="2")
    chief = chief_of(service)
    with admin(service) as client:
        for name in (chief, "ninguém\0"):
            assert [log_in(client, name, "errada").status_code for _ in range(4)] == [200, 200, 429, 429]
    known = [(entry[0], entry[4]) for entry in told(service, actor=f"staff:{chief}")]
    assert known == [("login.failed", "127.0.0.1"), ("login.failed", "127.0.0.1"), ("login.locked", "127.0.0.1")]
    assert [entry[0] for entry in told(service, actor="")] == ["login.locked"]  # such a name is not looked up


# What is in no entry


def test_nothing_that_anybody_wrote_and_no_secret_is_in_the_log(make_service: MakeService) -> None:
    service, canary = make_service(), "CANARIO-7c1e"
    someone, chief = made_by_command(service, *SCOPES), chief_of(service)
    caller, bringing = someone.caller, Caller(service)
    for each, session in ((caller, "a"), (caller, "b"), (bringing, "c")):
        each.chat(f"{canary} pergunta", session_id=session, system_prompt=canary)
        good(each.call("PATCH", f"/sessions/{session}", json={"title": canary, "metadata": {canary: canary}}))
        each.session(session)
        each.messages(session)
        good(each.get("/sessions", q=canary))
    good(caller.get("/sessions", owner="*", q=canary))
    good(caller.call("DELETE", "/sessions/a"))
    good(caller.call("DELETE", "/sessions/b?erase=true"))
    with admin(service) as client:
        log_in(client, canary, canary)
        log_in(client, chief, canary)
        log_in(client, chief)
        [(pk,)] = service.sql("SELECT id FROM sessions_api_session WHERE session_id = 'c'")
        assert canary in client.get(f"/admin/sessions_api/session/{pk}/change/").text
        assert send(client, f"/admin/sessions_api/session/{pk}/delete/", post="yes").status_code == 302
    everything = str(service.sql("SELECT * FROM access_auditentry"))
    actions = {entry[0] for entry in told(service)}
    assert actions >= {"session.read", "session.changed", "session.closed", "session.erased", "login", "login.failed"}
    for secret in (canary, caller.key.split("_")[2], bringing.key, PASSWORD):
        assert secret not in everything


# Append only


@pytest.fixture
def entry(transactional_db: None) -> AuditEntry:
    return audit.record(audit.Action.READ, "client:x", target="s")


@pytest.mark.parametrize(
    "statement", ["UPDATE access_auditentry SET actor = 'outro'", "UPDATE access_auditentry SET at = at"]
)
def test_the_database_itself_refuses_a_change(entry: AuditEntry, statement: str) -> None:
    refused = pytest.raises(DatabaseError, match="the audit log is not to be changed")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEntry.objects.get().actor == "client:x"


def test_the_model_and_its_queries_refuse_to_change_or_delete(entry: AuditEntry) -> None:
    entry.actor = "outro"
    entries = AuditEntry.objects.all()
    for attempt in (
        entry.save, entry.delete, entries.delete, lambda: entries.update(actor="outro"),
        lambda: entries.bulk_update([entry], ["actor"]), AuditEntry.objects.get().save,
    ):  # fmt: skip
        with pytest.raises(TypeError, match="not to be"):
            attempt()
    assert AuditEntry.objects.get().actor == "client:x"


# Its own retention


@pytest.mark.django_db(transaction=True)
def test_it_is_purged_in_batches_by_its_own_retention(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 30
    now, old = timezone.now(), 100
    AuditEntry.objects.bulk_create(
        AuditEntry(actor="open", action="session.read", at=now - 31 * DAY) for _ in range(old)
    )
    kept = [audit.record(audit.Action.READ, "open") for _ in range(3)]
    with CaptureQueriesContext(connection) as queries:
        assert audit.purge() == old
    assert len([query for query in queries if query["sql"].startswith("DELETE")]) > 3
    assert set(AuditEntry.objects.values_list("pk", flat=True)) == {one.pk for one in kept}


def test_the_running_service_purges_it(make_service: MakeService, upstream: Upstream) -> None:
    service = make_service(AUDIT_RETENTION_DAYS="30")
    service.manage("create_client", "novo")
    service.kill()
    service.sql("INSERT INTO access_auditentry (at, actor, action, target, owner, address, request_id, details) "
                "SELECT %s, actor, action, 'antes', owner, address, request_id, details FROM access_auditentry",
                (timezone.now() - 31 * DAY).isoformat(sep=" "))  # fmt: skip
    assert len(told(service)) == 2
    service.start()
    upstream.wait_until(lambda: told(service, target="antes") == [], 60)
    assert [each[2] for each in told(service)] == ["novo"]


@pytest.mark.django_db(transaction=True)
def test_a_purge_by_hand_is_told() -> None:
    make_session(age=2 * DAY, turns=3)
    call_command("purge_sessions", "--older-than=1d", "--dry-run", stdout=StringIO())
    call_command("purge_sessions", "--older-than=9d", stdout=StringIO())
    assert not AuditEntry.objects.exists()
    call_command("purge_sessions", "--older-than=1d", stdout=StringIO())
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("sessions.purged", "command")
    assert entry.details == {"sessions": 1, "messages": 6, "rule": "idle for more than 1d"}


# Large logs


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("", "access_auditentry_at"), ("session.erased", "audit_action"), ("s-77", "audit_target"),
     ("s-7", "audit_target"), ("client:77/k", "audit_actor"), ("client:7", "audit_actor")],
)  # fmt: skip
@pytest.mark.django_db(transaction=True)
def test_each_way_to_look_into_it_is_answered_by_an_index(wanted: str, index: str) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(actor=f"client:{n}/k", action="session.erased" if n == 77 else "session.read", target=f"s-{n}0")
        for n in range(3000)
    )
    if connection.vendor == "postgresql":  # its planner needs to know the number of rows
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE access_auditentry")
    entries: QuerySet[AuditEntry] = AuditEntry.objects.order_by("-at", "-id")
    if wanted in AuditEntry.Action.values:
        entries = entries.filter(action=wanted)
    elif wanted:
        entries = search(entries, wanted)
    plan = entries[:100].explain()
    assert entries.exists()
    assert index in plan
    assert "Seq Scan" not in plan
