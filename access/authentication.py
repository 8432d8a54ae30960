"""Reads the Authorization header. Asks no database and calls nobody: it runs on the event loop for every turn."""

import re

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from access.callers import OPEN_CALLER, Caller, bringing
from bancobot_project.errors import ApiError

OUR_KEYS = "bb_"
A_KEY = re.compile(r"[\x21-\x7e]{1,512}")  # what can stand in a header upstream


class CallerAuthentication(BaseAuthentication):
    """No header: the open caller. `Bearer` and a key that is not ours: the caller brings the provider's key."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        return identify(header), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def identify(header: str) -> Caller:
    """The caller that an Authorization header names; raises `ApiError`."""
    if not header:
        return OPEN_CALLER
    scheme, _, key = header.partition(" ")
    key = key.strip(" ")
    if scheme.lower() != "bearer" or not key:
        raise ApiError("not_authenticated")
    if not A_KEY.fullmatch(key):
        raise ApiError("invalid_request", detail_code="malformed_key")
    if key.startswith(OUR_KEYS):  # never to be sent to a provider, whatever it is
        raise ApiError("invalid_api_key")
    return bringing(key)
