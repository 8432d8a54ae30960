"""Clients and keys, inserted directly into a running service's database, with any fields."""

import asyncio
import base64
import hashlib
import json
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from testing.client import Caller
from testing.service import Service

CLIENTS, KEYS = "access_client", "access_key"
ALL_SCOPES = ("chat", "sessions:read", "sessions:write", "sessions:erase", "admin:read")
OWN_SCOPES = ALL_SCOPES[:4]
SMALL, LARGE = string.ascii_lowercase + string.digits, string.ascii_letters + string.digits


@dataclass(frozen=True)
class Answer:
    """The answer to one request of a burst; `headers` in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.text))


# Arguments of a request, and their refusal (status, code); `None`: the caller depends on the mode.
Credential = tuple[dict[str, Any], tuple[int, str] | None]
NOBODY = (401, "not_authenticated")
BAD_KEY = (401, "invalid_api_key")
MALFORMED = (400, "invalid_request")


class Client:
    """A client of the service: owner of sessions, with limits (`requests_per_minute=10`) and any number of keys."""

    def __init__(self, service: Service, scopes: Sequence[str] = OWN_SCOPES, **fields: Any) -> None:
        self.service = service
        self.client_id = _some(SMALL, 12)
        self.owner = f"client:{self.client_id}"
        values = {"client_id": self.client_id, "name": f"Cliente {self.client_id}", "contact": "", "notes": ""}
        row = {**values, "is_active": True, "scopes": json.dumps(scopes), "created_at": now(), **fields}
        self.pk = _insert(service, CLIENTS, row)

    def set(self, **fields: Any) -> None:
        """Change fields as an operator does; the change is committed when this returns."""
        _update(self.service, CLIENTS, self.pk, fields)

    def key(self, **fields: Any) -> "Key":
        return Key(self, **fields)

    def caller(self, **fields: Any) -> Caller:
        """A caller with a new key of this client."""
        return Caller(self.service, self.key(**fields).whole)


class Key:
    """A client's key; `whole` goes into the header."""

    def __init__(self, client: Client, **fields: Any) -> None:
        self.service = client.service
        self.identifier, secret = _some(SMALL, 12), _some(LARGE, 43)
        self.whole = f"bb_{self.identifier}_{secret}"
        hashed = hashlib.sha256(secret.encode()).hexdigest()
        row = {"client_id": client.pk, "identifier": self.identifier, "secret_hash": hashed, "label": ""}
        self.pk = _insert(self.service, KEYS, {**row, "created_at": now(), **fields})

    @property
    def with_another_secret(self) -> str:
        return f"bb_{self.identifier}_{_some(LARGE, 43)}"

    def set(self, **fields: Any) -> None:
        _update(self.service, KEYS, self.pk, fields)

    def revoke(self) -> None:
        self.set(revoked_at=now())


def revoke_by_command(key: Key, client: Client) -> None:
    result = key.service.manage("revoke_key", key.identifier)
    assert result.returncode == 0, result.stderr


def delete(key: Key, client: Client) -> None:
    key.service.sql("DELETE FROM access_key WHERE id = %s", key.pk)


WAYS: dict[str, Callable[[Key, Client], None]] = {
    "revoked": lambda key, client: key.revoke(),
    "revoked by command": revoke_by_command,
    "client deactivated": lambda key, client: client.set(is_active=False),
    "expired": lambda key, client: key.set(expires_at=now()),
    "another secret": lambda key, client: key.set(secret_hash="0" * 64),
    "deleted": delete,
}


def now(**later: float) -> datetime:
    return datetime.now(UTC) + timedelta(**later)


def made_up_key() -> str:
    """A key in BancoBot's form that nobody has."""
    return f"bb_{_some(SMALL, 12)}_{_some(LARGE, 43)}"


def credentials_of(client: Client, key: Key) -> dict[str, Credential]:
    """Most are keys of the owner's own client that must not work, or not in this form."""
    service, whole = client.service, key.whole
    encoded = base64.b64encode(f"{whole}:".encode()).decode()
    inactive = Client(service, is_active=False).key().whole
    good_key = f"Bearer {whole}"
    return {
        "no key": ({}, None),
        "empty header": (header(""), None),
        "key in the query": (
            {"params": {"key": whole, "api_key": whole, "token": whole, "Authorization": good_key}},
            None,
        ),
        "key in a cookie": ({"headers": {"Cookie": f"key={whole}; Authorization={whole}; sessionid={whole}"}}, None),
        "key in another header": ({"headers": {"X-Auth-Token": whole, "Proxy-Authorization": good_key}}, None),
        "provider's key": (header(f"Bearer sk-{secrets.token_hex(12)}"), None),
        "another client": (header(f"Bearer {Client(service).key().whole}"), None),
        "expired": (header(f"Bearer {client.key(expires_at=now(seconds=-1)).whole}"), BAD_KEY),
        "revoked": (header(f"Bearer {client.key(revoked_at=now(seconds=-1)).whole}"), BAD_KEY),
        "inactive client": (header(f"Bearer {inactive}"), BAD_KEY),
        "another secret": (header(f"Bearer {key.with_another_secret}"), BAD_KEY),
        "made up": (header(f"Bearer {made_up_key()}"), BAD_KEY),
        "cut": (header(good_key[:-1]), BAD_KEY),
        "more at the end": (header(f"{good_key}x"), BAD_KEY),
        "in lower case": (header(f"Bearer {whole.lower()}"), BAD_KEY),
        "in upper case": (header(f"Bearer {whole.upper()}"), BAD_KEY),
        "quoted": (header(f'Bearer "{whole}"'), BAD_KEY),
        "named": (header(f"Bearer key={whole}"), BAD_KEY),
        "listed": (header(f"{good_key},{whole}"), BAD_KEY),
        "Basic": (header(f"Basic {encoded}"), NOBODY),
        "no scheme": (header(whole), NOBODY),
        "another scheme": (header(f"Token {whole}"), NOBODY),
        "only the scheme": (header("Bearer"), NOBODY),
        "tab": (header(f"Bearer\t{whole}"), NOBODY),
        "space and tab": (header(f"Bearer \t{whole}"), MALFORMED),
        "something else after it": (header(f"{good_key} x"), MALFORMED),
        "empty X-API-Key beside a good key": ({"headers": {"X-API-Key": "", "Authorization": good_key}}, None),
        "made up, in X-API-Key beside a good key": (
            {"headers": {"X-API-Key": made_up_key(), "Authorization": good_key}},
            BAD_KEY,
        ),
        "with its scheme in X-API-Key": ({"headers": {"X-API-Key": good_key}}, MALFORMED),
        "two X-API-Keys": ({"headers": [("X-API-Key", whole), ("X-API-Key", whole)]}, MALFORMED),
        "two X-API-Keys, one empty": ({"headers": [("X-API-Key", ""), ("X-API-Key", whole)]}, MALFORMED),
        "two headers": ({"headers": [("Authorization", good_key), ("Authorization", good_key)]}, MALFORMED),
    }


def header(value: str) -> dict[str, Any]:
    return {"headers": {"Authorization": value}}


def burst(
    services: Sequence[Service],
    keys: Sequence[str],
    method: str = "POST",
    path: str = "/chat",
    headers: Callable[[int], Mapping[str, str]] = lambda number: {},
    came: list[Answer] | None = None,
    body: Mapping[str, Any] | None = None,
) -> list[Answer]:
    """A request for each of `keys` ("": no key), all at once, each on its own connection, to the `services` in turn.

    `headers` gives those of a request by its number. To `came` the answers are added as they come.
    """

    async def ask(session: aiohttp.ClientSession, number: int, key: str) -> Answer:
        sent = {**headers(number), **({"Authorization": f"Bearer {key}"} if key else {})}
        url = services[number % len(services)].url + path
        async with session.request(method, url, headers=sent, json=body) as response:
            answered = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(response.status, answered, await response.text())
            if came is not None:
                came.append(answer)
            return answer

    async def all_at_once() -> list[Answer]:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
            return await asyncio.gather(*(ask(session, number, key) for number, key in enumerate(keys)))

    return asyncio.run(all_at_once())


def statuses(answers: Sequence[Answer]) -> dict[int, int]:
    """The count of each status."""
    return {status: sum(answer.status == status for answer in answers) for status in {a.status for a in answers}}


def _some(letters: str, count: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(count))


def _insert(service: Service, table: str, row: Mapping[str, Any]) -> int:
    places = ", ".join(["%s"] * len(row))
    values = [_stored(value) for value in row.values()]
    inserted = service.sql(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places}) RETURNING id", *values)
    return int(inserted[0][0])


def _update(service: Service, table: str, pk: int, fields: Mapping[str, Any]) -> None:
    changes = ", ".join(f"{name} = %s" for name in fields)
    values = [_stored(json.dumps(value) if name == "scopes" else value) for name, value in fields.items()]
    service.sql(f"UPDATE {table} SET {changes} WHERE id = %s", *values, pk)


def _stored(value: Any) -> Any:
    """Moments as text that both databases read as UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00" if isinstance(value, datetime) else value
