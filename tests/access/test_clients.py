"""manage.py create_client, create_key, revoke_key and list_keys."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from access import clients
from access.keyring import A_KEY, matches, read_keys
from access.models import AuditEntry, Client, Key, Scope
from testing.client import Caller, good, problem
from testing.upstream import Upstream
from tests.conftest import MakeService

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
NOBODY = clients.Operator("tests")


def run(*arguments: str) -> str:
    """What a command writes to standard output."""
    output = StringIO()
    call_command(*arguments, stdout=output, stderr=StringIO())
    return output.getvalue()


def entries() -> list[tuple[str, str, str, str]]:
    found = AuditEntry.objects.order_by("pk")
    return [(entry.action, entry.actor, entry.target, entry.owner) for entry in found]


def made(name: str = "Portal", **fields: Any) -> Client:
    client = Client(name=name, **fields)
    clients.create(client, NOBODY)
    return client


def is_good(whole: str) -> bool:
    key = read_keys([whole.split("_")[1]])[0]
    return key is not None and matches(key, whole)


# Clients


def test_a_client_has_what_the_command_says() -> None:
    run(
        "create_client", "Portal", "--contact=ana@banco.example", "--notes=piloto", "--scope=chat",
        "--scope=sessions:erase", "--requests-per-minute=60", "--turns-in-flight=4", "--tokens-per-day=1000000",
        "--cost-per-month=12.50",
    )  # fmt: skip
    client = Client.objects.get()
    assert (client.name, client.contact, client.notes, client.is_active) == (
        "Portal",
        "ana@banco.example",
        "piloto",
        True,
    )
    assert client.scopes == ["chat", "sessions:erase"]
    limits = (client.requests_per_minute, client.turns_in_flight, client.tokens_per_day, client.cost_per_month)
    assert limits == (60, 4, 1_000_000, Decimal("12.50"))


def test_without_more_a_client_has_the_usual_scopes_and_the_limits_of_the_settings() -> None:
    assert run("create_client", "Portal") == ""
    client = Client.objects.get()
    assert client.scopes == ["chat", "sessions:read", "sessions:write"]
    assert [getattr(client, name) for name in clients.LIMITS] == [None] * 6


def test_a_new_client_s_first_key_stands_alone_on_standard_output() -> None:
    whole = run("create_client", "Portal", "--key", "produção").removesuffix("\n")
    assert A_KEY.fullmatch(whole)
    assert is_good(whole)
    assert Key.objects.get().label == "produção"


def test_an_unknown_scope_is_refused_with_those_that_exist() -> None:
    with pytest.raises(CommandError, match="sessions:all") as refused:
        run("create_client", "Portal", "--scope=sessions:all")
    assert all(scope in str(refused.value) for scope in Scope.values)
    assert not Client.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Portal"], "already exists"),
        (["x" * 101], "100 characters"),
        ([""], "blank"),
        (["Outro", "--cost-per-month=-1"], "cost_per_month"),
        (["Outro", "--cost-per-month=NaN"], "cost-per-month"),
        (["Outro", "--cost-per-month=0.001"], "decimal places"),
        (["Outro", "--requests-per-minute=-1"], "requests_per_minute"),
        (["Outro", "--tokens-per-day=99999999999999999999"], "tokens_per_day"),
        (["Outro", "--key", "x" * 101], "100 characters"),
    ],
)
def test_what_makes_no_client_is_refused_and_leaves_nothing(arguments: list[str], said: str) -> None:
    made("Portal")
    with pytest.raises(CommandError, match=said):
        run("create_client", *arguments)
    assert (Client.objects.count(), Key.objects.count(), AuditEntry.objects.count()) == (1, 0, 1)


# Keys


def test_a_key_is_printed_alone_and_works_and_is_not_kept() -> None:
    client = made("Portal")
    whole = run("create_key", "Portal", "--label", "app").removesuffix("\n")
    assert is_good(whole)
    key = Key.objects.get()
    assert (key.client, key.label, key.expires_at) == (client, "app", None)
    secret = whole.split("_")[2]
    assert secret not in str(Key.objects.values())
    assert secret not in str(AuditEntry.objects.values())


def test_a_client_is_found_by_its_name_or_its_id() -> None:
    client = made("Portal")
    for name in ("Portal", client.client_id, client.owner):
        run("create_key", name)
    assert client.keys.count() == 3


@pytest.mark.parametrize(("length", "days"), [("12h", 0.5), ("90d", 90), ("2w", 14)])
def test_a_key_may_expire_after_some_time(length: str, days: float) -> None:
    made("Portal")
    before = timezone.now()
    run("create_key", "Portal", "--expires", length)
    expires_at = Key.objects.get().expires_at
    assert expires_at is not None
    assert before <= expires_at - timedelta(days=days) <= timezone.now()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2099-03-31", datetime(2099, 4, 1, tzinfo=UTC)),
        ("2099-03-31T12:00", datetime(2099, 3, 31, 12, tzinfo=UTC)),
        ("2099-03-31T12:00-03:00", datetime(2099, 3, 31, 15, tzinfo=UTC)),
    ],
)
def test_a_key_may_expire_at_the_end_of_a_day_or_at_a_moment(text: str, moment: datetime) -> None:
    made("Portal")
    run("create_key", "Portal", "--expires", text)
    assert Key.objects.get().expires_at == moment


@pytest.mark.parametrize(
    "text", ["", "soon", "90", "-1d", "1.5d", "2020-01-01", "0d", "2099-02-30", "9999-12-31", "٣d"]
)
def test_another_time_to_expire_is_refused(text: str) -> None:
    made("Portal")
    with pytest.raises(CommandError, match="--expires"):
        run("create_key", "Portal", f"--expires={text}")
    assert not Key.objects.exists()


def test_a_key_for_an_unknown_client_is_refused() -> None:
    with pytest.raises(CommandError, match="no client called 'Ninguém'"):
        run("create_key", "Ninguém")


@pytest.mark.parametrize("form", ["{identifier}", "bb_{identifier}", "bb_{identifier}_…", "{whole}", " {whole}\n"])
def test_a_key_is_revoked_by_any_of_its_names(form: str) -> None:
    key, whole = clients.new_key(made(), NOBODY)
    told = run("revoke_key", form.format(identifier=key.identifier, whole=whole))
    assert told == f"Revoked bb_{key.identifier} of Portal.\n"
    assert not is_good(whole)


def test_revoking_twice_changes_and_records_nothing_more() -> None:
    key, _ = clients.new_key(made(), NOBODY)
    run("revoke_key", key.identifier)
    at, told = Key.objects.get().revoked_at, len(entries())
    assert "had been revoked before" in run("revoke_key", key.identifier)
    assert (Key.objects.get().revoked_at, len(entries())) == (at, told)


@pytest.mark.parametrize("text", ["abcdefghijkl", "bb_abcdefghijkl_" + "S" * 43, "x", ""])
def test_an_unknown_key_is_not_repeated_in_the_complaint(text: str) -> None:
    with pytest.raises(CommandError) as refused:
        run("revoke_key", text)
    assert str(refused.value) == "There is no such key. list_keys --all names those that exist."


# The list


def test_the_list_says_how_each_key_stands() -> None:
    portal, antigo = made("Portal", scopes=["chat"]), made("Antigo", is_active=False)
    used = clients.new_key(portal, NOBODY, "app\nx")[0]
    Key.objects.filter(pk=used.pk).update(last_used_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    expired = clients.new_key(portal, NOBODY, expires_at=timezone.now() - DAY)[0]
    revoked = clients.new_key(portal, NOBODY, expires_at=timezone.now() - DAY)[0]
    clients.revoke(revoked, NOBODY)
    refused = clients.new_key(antigo, NOBODY)[0]

    def listed(*arguments: str) -> dict[str, list[str]]:
        head, *lines = run("list_keys", *arguments).splitlines()
        assert head.split()[:4] == ["KEY", "CLIENT", "LABEL", "SCOPES"]
        return {cells[0]: cells[1:] for cells in (re.split(" {2,}", line) for line in lines)}

    def name(key: Key) -> str:
        return f"bb_{key.identifier}"

    everything = listed("--all")
    states = {shown: cells[-1] for shown, cells in everything.items()}
    assert states == {
        name(used): "usable", name(expired): "expired", name(revoked): "revoked", name(refused): "client not active",
    }  # fmt: skip
    created = f"{used.created_at:%Y-%m-%d %H:%M}"
    assert everything[name(used)] == ["Portal", "app\\nx", "chat", created, "-", "2026-01-02 03:04", "usable"]
    assert listed().keys() == {name(used), name(refused)}
    assert listed("--client", "Antigo").keys() == {name(refused)}
    assert listed("--client", "Portal", "--all").keys() == {name(used), name(expired), name(revoked)}


def test_the_list_takes_one_query_and_shows_no_secret(django_assert_num_queries: Any) -> None:
    client = made()
    wholes = [clients.new_key(client, NOBODY)[1] for _ in range(20)]
    with django_assert_num_queries(1):
        shown = run("list_keys")
    assert len(shown.splitlines()) == 21
    assert [whole for whole in wholes if whole.split("_")[2] in shown] == []


# The audit log


def test_each_command_is_recorded() -> None:
    run("create_client", "Portal", "--notes=segredo-da-nota", "--contact=segredo-do-contato", "--key")
    key, client = Key.objects.get(), Client.objects.get()
    run("revoke_key", key.identifier)
    assert entries() == [
        ("client.created", "command", "Portal", client.owner),
        ("key.created", "command", f"bb_{key.identifier}", client.owner),
        ("key.revoked", "command", f"bb_{key.identifier}", client.owner),
    ]
    assert "segredo" not in str(AuditEntry.objects.values())


def test_a_change_says_what_was_and_what_is_but_for_notes_and_contact() -> None:
    client = made("Portal", cost_per_month=Decimal(5))
    client.cost_per_month, client.notes, client.contact = Decimal("7.50"), "segredo", "segredo"
    clients.change(client, NOBODY)
    client.refresh_from_db()
    assert (client.cost_per_month, client.notes) == (Decimal("7.50"), "segredo")
    entry = AuditEntry.objects.get(action="client.changed")
    assert entry.details == {
        "fields": ["contact", "cost_per_month", "notes"], "was_and_is": {"cost_per_month": ["5.00", "7.50"]},
    }  # fmt: skip
    clients.change(client, NOBODY)
    assert AuditEntry.objects.filter(action="client.changed").count() == 1


# With the service


def test_a_key_from_the_command_line_opens_the_running_service_until_it_is_revoked(
    make_service: MakeService, upstream: Upstream
) -> None:
    service = make_service(ACCESS_MODE="keys")
    created = service.manage("create_client", "Portal", "--key")
    assert created.returncode == 0
    whole = created.stdout.removesuffix("\n")
    assert whole not in created.stderr
    assert A_KEY.fullmatch(whole)
    problem(Caller(service, key="").post("/chat", message="Oi"), 401, "not_authenticated")
    portal = Caller(service, key=whole)
    portal.chat("Oi", session_id="s")
    assert good(portal.get("/sessions"))["data"][0]["session_id"] == "s"
    assert service.manage("create_client", "Portal").returncode == 1
    assert service.manage("create_client", "Outro", "--scope=tudo").returncode == 2
    assert service.manage("revoke_key", "nada").returncode == 1
    assert service.manage("revoke_key", whole).returncode == 0
    upstream.wait_until(
        lambda: portal.get("/sessions").status_code != 200
    )  # a worker may accept it for one more second
    problem(portal.get("/sessions"), 401, "invalid_api_key")
    assert whole.split("_")[2] not in service.log()
