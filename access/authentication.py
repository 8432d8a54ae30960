"""Reads the Authorization header.

Requests that stay on the event loop have a key looked up beforehand (chat/views.py) and `identify` themselves; the
others are recognised by `CallerAuthentication`, which asks the database where the key is not known afresh.
"""

import re
import time
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

A_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,512}")  # what can stand in a header upstream


class CallerAuthentication(BaseAuthentication):
    """No header: the open caller. `Bearer` and a key of ours: its client. Another key: who brings the provider's."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        header = request.META.get("HTTP_AUTHORIZATION", "")
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


def identifier_in(header: str) -> str | None:
    """The identifier of the key of ours that a header names, which has to be looked up for `identify`."""
    found = A_KEY.search(header)
    return found[1] if found else None


def identify(header: str, key: StoredKey | None, *, keyless: bool = False) -> Caller:
    """The caller that an Authorization header names; raises `ApiError`.

    `key`: what was found of the key of ours that it names. `keyless`: also nobody in particular, in every mode.
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
    if sent.lower().startswith(PREFIX) or A_KEY.search(sent):  # never to be sent to a provider, whatever else it says
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

    A view that names none for an action fails: nothing is open because somebody forgot it. `scopes` maps an action to
    the scopes of which one is enough; an empty tuple leaves it to the view.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if view.action not in (None, "metadata"):  # else there is no such method here, which is answered elsewhere
            scopes = view.scopes[view.action]
            if scopes and not caller_of(request).scopes.intersection(scopes):
                caller_of(request).require(scopes[0])
        return True
