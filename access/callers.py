"""The caller of a request: which sessions it owns, and what it may do."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, cast

from django.conf import settings
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

from access.models import Client, Scope
from web.errors import ApiError

OPEN_OWNER = "open"
OWN_SESSIONS = frozenset({Scope.CHAT.value, Scope.READ.value, Scope.WRITE.value, Scope.ERASE.value})


class Limits(NamedTuple):
    """How much an owner may use; 0 means no limit. Cost is in USD; days and months are UTC."""

    requests_per_minute: int = 0
    turns_in_flight: int = 0
    tokens_per_day: int = 0
    cost_per_month: Decimal = Decimal(0)
    sessions: int = 0
    stored_mb: int = 0

    @property
    def limit_turns(self) -> bool:
        """Whether any limit applies to what turns use."""
        return any(self[1:4])

    @property
    def limit_storage(self) -> bool:
        """Whether any limit applies to what is stored."""
        return any(self[4:])


def usual_limits() -> Limits:
    """The limits of an owner without its own, from the settings."""
    return Limits(
        settings.OWNER_REQUESTS_PER_MINUTE,
        settings.OWNER_TURNS_IN_FLIGHT,
        settings.OWNER_TOKENS_PER_DAY,
        settings.OWNER_COST_PER_MONTH,
        settings.OWNER_SESSIONS,
        settings.OWNER_STORED_MB,
    )


def limits_of_strangers() -> Limits:
    """The limits of a caller whom nobody has registered: anybody can make up a provider's key."""
    return usual_limits()._replace(sessions=settings.BYOK_SESSIONS, stored_mb=settings.BYOK_STORED_MB)


def limits_of(client: Client) -> Limits:
    """The client's own limits, completed with the usual ones."""
    own = (getattr(client, name) for name in Limits._fields)
    return Limits._make(usual if mine is None else mine for mine, usual in zip(own, usual_limits(), strict=True))


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` names the caller in the database; `kind` is open, client, or byok ("bring your own key").

    `provider_key` is the caller's own key: it goes upstream with this request and nowhere else. `key_id` is the
    identifier of the client's key.
    """

    owner: str
    kind: str
    provider_key: str | None = field(default=None, repr=False)
    key_id: str = ""
    scopes: frozenset[str] = OWN_SESSIONS
    limits: Limits = field(default_factory=usual_limits)
    is_authenticated: bool = True

    @property
    def name(self) -> str:
        """The name in the audit log: the owner, and the identifier of the key."""
        return f"{self.owner}/{self.key_id}" if self.key_id else self.owner

    def require(self, scope: str) -> None:
        """Raises `ApiError` unless the caller has this scope."""
        if scope not in self.scopes:
            raise ApiError("permission_denied", detail_code="missing_scope", scope=str(scope))


def open_caller() -> Caller:
    return Caller(OPEN_OWNER, "open")


def byok_caller(provider_key: str) -> Caller:
    """The caller with this provider key. Its owner name is a keyed hash, which does not reveal the key."""
    digest = salted_hmac("access.owner", provider_key, secret=settings.OWNER_HASH_KEY, algorithm="sha256")
    return Caller(f"byok:{digest.hexdigest()[:40]}", "byok", provider_key, limits=limits_of_strangers())


def caller_of(request: Request) -> Caller:
    """The caller that `CallerAuthentication` found."""
    return cast(Caller, request.user)
