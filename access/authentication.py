"""Reads the Authorization header.

Requests that stay on the event loop have a key looked up beforehand (chat/views.py) and `identify` themselves; the
others are recognised by `CallerAuthentication`, which asks the database where the key is not known afresh.
"""

import re
import time

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from access.audit import address_of
from access.callers import Caller, bringing, open_caller
from access.keyring import A_KEY, PREFIX, KnownKey, keyring, matches, read_keys
from access.limits import LIMIT_HEADERS, admit
from bancobot_project.errors import ApiError

A_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,512}")  # what can stand in a header upstream


class CallerAuthentication(BaseAuthentication):
    """No header: the open caller. `Bearer` and a key of ours: its client. Another key: who brings the provider's."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        identifier = key_to_look_up(header)
        if identifier:
            asked_at = time.monotonic()
            keyring.keep(identifier, read_keys([identifier])[0], asked_at)
        try:
            caller = identify(header)
        except ApiError:
            admit(None, address_of(request))
            raise
        request.META[LIMIT_HEADERS] = admit(caller, address_of(request))
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def key_to_look_up(header: str) -> str | None:
    """The identifier of a key of ours that has to be asked for before `identify`."""
    found = A_KEY.search(header)
    return found[1] if found and keyring.fresh(found[1]) is None else None


def identify(header: str, *, keyless: bool = False) -> Caller:
    """The caller that an Authorization header names; raises `ApiError`.

    Keys of ours have to be fresh in the keyring. `keyless`: also nobody in particular, in every mode.
    """
    if not header:
        if settings.ACCESS_MODE != "open" and not keyless:
            raise ApiError("not_authenticated")
        return open_caller()
    scheme, _, key = header.partition(" ")
    key = key.strip(" ")
    if scheme.lower() != "bearer" or not key:
        raise ApiError("not_authenticated")
    if not A_HEADER_VALUE.fullmatch(key):
        raise ApiError("invalid_request", detail_code="malformed_key")
    if key.lower().startswith(PREFIX) or A_KEY.search(key):  # never to be sent to a provider, whatever else it says
        return _client(key)
    if settings.ACCESS_MODE == "keys":
        raise ApiError("invalid_api_key", detail_code="other_keys")
    return bringing(key)


def _client(whole: str) -> Caller:
    if settings.ACCESS_MODE == "byok":
        raise ApiError("invalid_api_key", detail_code="no_own_keys")
    found = A_KEY.fullmatch(whole)
    key: KnownKey | None = keyring.last_known(found[1]) if found else None
    if key is None or not matches(key, whole):
        raise ApiError("invalid_api_key")
    keyring.note_use(key)
    return key.caller
