"""The clients' keys: made here, looked up in sets, and kept for a second, so that a call needs no query."""

import hashlib
import hmac
import re
import secrets
import string
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from access.callers import Caller, limits_of
from access.models import Client, Key, new_identifier
from web.errors import ApiError

PREFIX = "bb_"
A_KEY = re.compile(r"bb_([a-z0-9]{12})_([A-Za-z0-9]{43})")
LETTERS = string.ascii_letters + string.digits
FRESH_SECONDS = 1.0  # how long a key that was looked up counts as current
MAX_KEPT = 10_000  # keys
USE_NOTED_SECONDS = 60.0  # the precision of "last used"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is stored. `usable` does not look at its expiry."""

    pk: int
    identifier: str
    secret_hash: str = field(repr=False)
    usable: bool
    expires_at: datetime | None
    caller: Caller

    @property
    def valid(self) -> bool:
        return self.usable and (self.expires_at is None or self.expires_at > timezone.now())


def new_key(client: Client, label: str = "", expires_at: datetime | None = None) -> tuple[Key, str]:
    """A new key, stored, and its full text, which is kept nowhere."""
    identifier, secret = new_identifier(), "".join(secrets.choice(LETTERS) for _ in range(43))
    key = Key.objects.create(
        client=client, identifier=identifier, secret_hash=hash_of(secret), label=label, expires_at=expires_at
    )
    return key, f"{PREFIX}{identifier}_{secret}"


def hash_of(secret: str) -> str:
    """The secret's hash. A plain one is enough for 256 random bits: nobody can try them all."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read_keys(identifiers: Sequence[str]) -> list[StoredKey | None]:
    """The keys with these identifiers; `None` where there is none."""
    keys = Key.objects.filter(identifier__in=set(identifiers)).select_related("client")
    found = {key.identifier: _known(key) for key in keys}
    return [found.get(identifier) for identifier in identifiers]


def _known(key: Key) -> StoredKey:
    client = key.client
    usable = client.is_active and key.revoked_at is None
    scopes, limits = frozenset(client.scopes), limits_of(client)
    caller = Caller(client.owner, "client", key_id=key.identifier, scopes=scopes, limits=limits)
    return StoredKey(key.pk, key.identifier, key.secret_hash, usable, key.expires_at, caller)


def matches(key: StoredKey, whole: str) -> bool:
    """Whether `whole` is this key's text and the key is valid."""
    found = A_KEY.fullmatch(whole)
    return (
        found is not None
        and found[1] == key.identifier
        and hmac.compare_digest(hash_of(found[2]), key.secret_hash)
        and key.valid
    )


class KeyRing:
    """The keys that callers of this process used, at most a second old unless somebody watches them."""

    def __init__(self) -> None:
        # The keys of listeners. Who listens with a revoked key is cut off.
        self.watched: Counter[str] = Counter()
        self.refusals = 0  # grows whenever a watched key is refused
        self._kept: dict[str, tuple[float, StoredKey]] = {}
        self._used: dict[int, datetime] = {}
        self._noted: dict[int, float] = {}

    def fresh(self, identifier: str) -> StoredKey | None:
        """The key, if it was looked up within the last second."""
        asked_at, key = self._kept.get(identifier, (-FRESH_SECONDS, None))
        return key if time.monotonic() - asked_at < FRESH_SECONDS else None

    @contextmanager
    def watching(self, identifier: str) -> Iterator[None]:
        """While the block runs, chat/engine/upkeep.py looks the key up regularly, so `allows` sees a revocation."""
        if not identifier:
            yield
            return
        self.watched[identifier] += 1
        try:
            yield
        finally:
            self.watched[identifier] -= 1
            if not self.watched[identifier]:
                del self.watched[identifier]

    def allows(self, identifier: str) -> bool:
        """Whether a caller with this key may go on. A caller without one (an empty identifier) always may."""
        if not identifier:
            return True
        key = self.last_known(identifier)
        return key is not None and key.valid

    def refuse_lost(self, identifier: str) -> None:
        """Raises `ApiError` unless `allows`."""
        if not self.allows(identifier):
            raise ApiError("invalid_api_key")

    def last_known(self, identifier: str) -> StoredKey | None:
        """The key as it was last looked up, however long ago."""
        return self._kept.get(identifier, (0.0, None))[1]

    def keep(self, identifier: str, key: StoredKey | None, asked_at: float) -> StoredKey | None:
        """Keep the database's answer. `asked_at`: time.monotonic() before the query; a revocation may follow it."""
        if key is None:
            self._kept.pop(identifier, None)  # invented identifiers must not fill the memory
            return None
        if len(self._kept) >= MAX_KEPT:
            kept_now = list(self._kept.items())  # one step: threads keep keys too
            self._kept = {name: kept for name, kept in kept_now if name in self.watched}
        self._kept[identifier] = (asked_at, key)
        return key

    def note_use(self, key: StoredKey) -> None:
        now = time.monotonic()
        if now - self._noted.get(key.pk, -USE_NOTED_SECONDS) >= USE_NOTED_SECONDS:
            self._noted[key.pk] = now
            self._used[key.pk] = timezone.now()

    def take_uses(self) -> list[tuple[int, datetime]]:
        """Keys and their last uses, to be stored. Gives each use once."""
        used, self._used = self._used, {}
        return list(used.items())


def store_uses(uses: Sequence[tuple[int, datetime]]) -> list[None]:
    for pk, moment in sorted(uses):
        Key.objects.filter(pk=pk).update(last_used_at=moment)
    return [None] * len(uses)


keyring = KeyRing()
