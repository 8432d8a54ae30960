"""What operators do to clients and keys, in the admin or by command.

Each change and its audit entry share a transaction. No entry quotes notes or contacts.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access import audit, keyring
from access.budgets import budget_used
from access.callers import Limits, limits_of
from access.limits import MINUTE
from access.models import Account, Client, Key, RequestWindow, Stored, StoredChange
from access.storage.totals import MB
from web.moments import SKEW

A_KEY_OR_ITS_NAME = re.compile(r"(?:bb_)?([a-z0-9]{12})(?:_.*)?")
LIMITS = Limits._fields
AUDITED_FIELDS = ("name", "is_active", "scopes", *LIMITS)  # the audit log has their old and new values
FIELDS = (*AUDITED_FIELDS, "contact", "notes")
STATES = {"usable": _("usable"), "expired": _("expired"), "revoked": _("revoked"), "inactive": _("client not active")}


class Operator(NamedTuple):
    """The person who acts, as the audit log names them, and their address."""

    name: str
    address: str = ""


COMMAND = Operator("command")  # somebody with a shell on the machine


def create(client: Client, by: Operator) -> None:
    with transaction.atomic():
        client.save(force_insert=True)
        values = {name: _as_json(getattr(client, name)) for name in AUDITED_FIELDS}
        _audit(audit.Action.CLIENT_CREATED, client, client.name, by, **values)


def change(client: Client, by: Operator) -> None:
    """Store the changed fields. Without a change there is no audit entry."""
    with transaction.atomic():
        before = Client.objects.select_for_update().get(pk=client.pk)
        changed = [name for name in FIELDS if getattr(before, name) != getattr(client, name)]
        if not changed:
            return
        client.save(update_fields=changed)
        if not {*changed}.isdisjoint(LIMITS):  # what was counted, or refused, by other limits
            Account.objects.filter(owner=client.owner).update(exhausted=None, exhausted_until=None)
            Stored.objects.filter(owner=client.owner).update(counted_at=None)
        audited = [name for name in changed if name in AUDITED_FIELDS]
        values = {name: [_as_json(getattr(before, name)), _as_json(getattr(client, name))] for name in audited}
        _audit(audit.Action.CLIENT_CHANGED, client, client.name, by, fields=sorted(changed), was_and_is=values)


def new_key(client: Client, by: Operator, label: str = "", expires_at: datetime | None = None) -> tuple[Key, str]:
    """Store a new key. Return it with its full text, which is stored nowhere: show it once."""
    with transaction.atomic():
        key, whole = keyring.new_key(client, label, expires_at)
        _audit(audit.Action.KEY_CREATED, client, public_name(key), by, label=label, expires_at=_as_json(expires_at))
    return key, whole


def revoke(key: Key, by: Operator) -> bool:
    """Revoke a key. Return `False` if it had been revoked before."""
    with transaction.atomic():
        done = Key.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
        if done:
            _audit(audit.Action.KEY_REVOKED, key.client, public_name(key), by, label=key.label)
    return bool(done)


def _audit(action: str, client: Client, target: str, by: Operator, **details: Any) -> None:
    audit.record(action, by.name, target=target, owner=client.owner, address=by.address, **details)


def _as_json(value: Any) -> Any:
    """A value that JSON can hold."""
    return str(value) if isinstance(value, Decimal | datetime) else value


# Queries


def public_name(key: Key) -> str:
    """A key's name without its secret."""
    return f"bb_{key.identifier}"


def identifier_in(text: str) -> str:
    """The identifier in `text`, which may be an identifier, `bb_` and an identifier, or a full key; else empty."""
    found = A_KEY_OR_ITS_NAME.fullmatch(text.strip())
    return found[1] if found else ""


def find(name: str) -> Client | None:
    """The client with that name, or with that id, with or without `client:`."""
    same_id = Q(client_id=name.removeprefix("client:"))
    return Client.objects.filter(name=name).first() or Client.objects.filter(same_id).first()


def state_filter(name: str, prefix: str = "") -> Q:
    """Filter keys by state, without regard to their client's; `prefix` is the lookup path to the keys."""
    expired = Q(**{f"{prefix}expires_at__isnull": False, f"{prefix}expires_at__lte": timezone.now()})
    revoked = Q(**{f"{prefix}revoked_at__isnull": False})
    return {"revoked": revoked, "expired": ~revoked & expired, "usable": ~revoked & ~expired}[name]


def state_of(key: Key) -> str:
    """One of STATES."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return "expired"
    return "usable" if key.client.is_active else "inactive"


def keys_of(client: Client | None = None, *, include_unusable: bool = False) -> QuerySet[Key]:
    """Keys with their clients; without revoked and expired ones by default."""
    keys = Key.objects.select_related("client").order_by("client__name", "-created_at", "-id")
    keys = keys if client is None else keys.filter(client=client)
    return keys if include_unusable else keys.filter(state_filter("usable"))


class Use(NamedTuple):
    """Usage under a limit. `limit` 0: no limit, and usage may not have been counted."""

    name: str
    used: int | Decimal
    limit: int | Decimal


def use_of(client: Client) -> Sequence[Use]:
    """A client's usage in this minute, now, today and this month (UTC), and what it has stored. Five queries."""
    now, limits = timezone.now(), limits_of(client)
    current = {"began_at__gt": now - MINUTE, "began_at__lte": now + SKEW}
    window = RequestWindow.objects.filter(counted=client.owner, **current).first()
    used = (window.requests if window else 0, *budget_used(client.owner, now), *_stored(client.owner))
    labels: Any = [Client._meta.get_field(name).verbose_name for name in LIMITS]  # type: ignore[union-attr]  # columns
    return [Use(label, used[index], limits[index]) for index, label in enumerate(labels)]


def _stored(owner: str) -> tuple[int, Decimal]:
    """Sessions and megabytes, where a limit has them counted."""
    counted = [
        model.objects.filter(owner=owner).aggregate(sessions=Sum("sessions", default=0), size=Sum("size", default=0))
        for model in (Stored, StoredChange)
    ]
    sessions, size = (max(0, sum(int(one[name]) for one in counted)) for name in ("sessions", "size"))
    return sessions, (Decimal(size) / MB).quantize(Decimal("0.1"))
