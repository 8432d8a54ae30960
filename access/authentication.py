"""Reads the headers that name the caller: Authorization, or X-API-Key in its place.

Views on the event loop look the key up themselves and call `identify` (chat/viewsets.py). All other views use
`CallerAuthentication`, which asks the database unless the key was read within the last second.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from access.audit import address_of
from access.callers import Caller, byok_caller, caller_of, open_caller
from access.keyring import A_KEY, PREFIX, StoredKey, keyring, matches, read_keys
from access.limits import LIMIT_HEADERS, throttle
from web.errors import ApiError

A_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,512}")  # a value that can be sent upstream in a header
TWO_KEYS = "Bearer two keys"  # malformed


class CallerAuthentication(BaseAuthentication):
    """No header: the open caller. `Bearer` and our key: its client. Any other key: a caller with a provider's key."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        header = header_in(request.META)
        key = None
        if identifier := identifier_in(header):
            key = keyring.fresh(identifier)
            if key is None:
                asked_at = time.monotonic()
                key = keyring.keep(identifier, read_keys([identifier])[0], asked_at)
        try:
            caller = identify(header, key)
        except ApiError:
            throttle(None, address_of(request))
            raise
        request.META[LIMIT_HEADERS] = throttle(caller, address_of(request))
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def header_in(meta: Mapping[str, Any]) -> str:
    """What names the caller, as an Authorization header; empty: nothing does.

    X-API-Key has the key alone, and says that Authorization is a proxy's (Basic, or a token of its own). An empty one
    says that there is no key.
    """
    sent: str | None = meta.get("HTTP_X_API_KEY")
    if sent is None:
        return str(meta.get("HTTP_AUTHORIZATION", ""))
    if "," in sent:  # two headers come as one with a comma: none of them is to choose
        return TWO_KEYS
    return f"Bearer {sent.strip()}" if sent.strip() else ""


def identifier_in(header: str) -> str | None:
    """The identifier of our key in a header. Look the key up before you call `identify`."""
    found = A_KEY.search(header)
    return found[1] if found else None


def identify(header: str, key: StoredKey | None, *, keyless: bool = False) -> Caller:
    """The caller that an Authorization header (see `header_in`) names; raises `ApiError`.

    `key`: our key as it was looked up, if the header names one. `keyless`: accept requests without a header in every
    mode.
    """
    if not header:
        if settings.ACCESS_MODE != "open" and not keyless:
            raise ApiError("not_authenticated")
        return open_caller()
    scheme, _, sent = header.partition(" ")
    sent = sent.strip(" ")
    if scheme.lower() != "bearer" or not sent:
        raise ApiError("not_authenticated")
    if not A_HEADER_VALUE.fullmatch(sent):
        raise ApiError("invalid_request", detail_code="malformed_key")
    if sent.lower().startswith(PREFIX) or A_KEY.search(sent):  # may contain our key: never send it to a provider
        return _client(sent, key)
    if settings.ACCESS_MODE == "keys":
        raise ApiError("invalid_api_key", detail_code="other_keys")
    return byok_caller(sent)


def _client(whole: str, key: StoredKey | None) -> Caller:
    if settings.ACCESS_MODE == "byok":
        raise ApiError("invalid_api_key", detail_code="no_own_keys")
    if key is None or not matches(key, whole):
        raise ApiError("invalid_api_key")
    keyring.note_use(key)
    return key.caller


class HasScope(BasePermission):
    """Raises `ApiError` unless the caller has one of the scopes that the view names for its action.

    `scopes` maps an action to scopes; one of them is enough. An empty tuple leaves the decision to the view. An action
    without an entry fails, so that a forgotten entry opens nothing.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if view.action not in (None, "metadata"):  # None: the view has no such method, and DRF answers 405
            scopes = view.scopes[view.action]
            if scopes and not caller_of(request).scopes.intersection(scopes):
                caller_of(request).require(scopes[0])
        return True
