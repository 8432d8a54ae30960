"""Who is calling, and so which sessions are theirs."""

from dataclasses import dataclass, field
from typing import cast

from django.conf import settings
from django.utils.crypto import salted_hmac
from rest_framework.request import Request

OPEN_OWNER = "open"


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` names the caller in the database; `kind` is open or byok ("bring your own key").

    `provider_key` is the caller's own key, which goes upstream with this request and nowhere else.
    """

    owner: str
    kind: str
    provider_key: str | None = field(default=None, repr=False)
    is_authenticated: bool = True


OPEN_CALLER = Caller(OPEN_OWNER, "open")


def bringing(provider_key: str) -> Caller:
    """The caller who brings this key; known again by its keyed hash, from which the key cannot be had."""
    digest = salted_hmac("access.owner", provider_key, secret=settings.OWNER_HASH_KEY, algorithm="sha256")
    return Caller(f"byok:{digest.hexdigest()[:40]}", "byok", provider_key)


def caller_of(request: Request) -> Caller:
    """Whom `CallerAuthentication` has recognised."""
    return cast(Caller, request.user)
