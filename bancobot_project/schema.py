"""The published OpenAPI document.

The views know nothing of it. When drf-spectacular goes through the addresses, `describe` puts a described stand-in
(schema_operations.py) in the place of each view, and `complete` adds what all operations share. An address that nobody
described makes the generation warn, and so a test fail.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings
from django.utils import translation
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.views import APIView

from bancobot_project import schema_examples as examples
from bancobot_project.schema_operations import OPERATIONS, TAGS, Describe, Schema

Endpoint = tuple[str, str, str, Callable[..., Any]]  # path, its regular expression, method, view

PARAMETERS: Schema = {
    "X-Request-ID": {
        "in": "header",
        "name": "X-Request-ID",
        "description": "Your own id for the request, for the answer and the server's log: 1 to 128 characters out of "
        "A-Z a-z 0-9 . _ : - (anything else is ignored).",
        "schema": {"type": "string"},
        "example": examples.REQUEST_ID,
    },
    "Accept-Language": {
        "in": "header",
        "name": "Accept-Language",
        "description": "The language of errors' `detail`: Brazilian Portuguese, or English.",
        "schema": {"type": "string", "default": "pt-BR"},
        "example": "pt-BR",
    },
}
HEADERS: Schema = {
    "X-Request-ID": {
        "description": "The request's id: yours, or one that the server made.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Retry-After": {
        "description": "Seconds after which it is worth trying again, where that is known.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit-Limit": {
        "description": "The limit that is nearest to this answer, where the caller has one: requests per minute, or "
        "the one that `limit` names.",
        "schema": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
    },
    "RateLimit-Remaining": {
        "description": "What is left of it.",
        "schema": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
    },
    "RateLimit-Reset": {
        "description": "Seconds until it counts anew.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "How to say who is calling.",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
    },
}
OF_A_CLIENT = "A key of BancoBot (bb_…), which the operator gives you: the sessions are those of its client."
OF_THE_PROVIDER = (
    "Your own key of the provider: it goes upstream with this request, is never stored, and tells whose sessions are "
    "yours."
)
OF_NOBODY = "Without the header the server's key is used, and the sessions are those of everybody who sends none."
KEYS = {
    "open": (OF_THE_PROVIDER, OF_A_CLIENT, OF_NOBODY),
    "keys": (OF_A_CLIENT,),
    "byok": (OF_THE_PROVIDER,),
    "keys+byok": (OF_A_CLIENT, OF_THE_PROVIDER),
}
REQUESTS = ("MessageRequest", "ChatRequest")
SESSION_ID: Schema = {
    "type": ["string", "null"],
    "pattern": "^[A-Za-z0-9._:-]{0,128}$",
    "description": "The session to go on with; an unknown id starts one. Null or empty: the server makes a new id.",
}
AFTER_TURN: Schema = {
    "type": ["string", "null"],
    "minLength": 1,
    "maxLength": 64,
    "description": "The turn that this one follows; null: none, it is the conversation's first. What came after that "
    "is superseded: out of the history, and kept in the record. Left out: the conversation goes on at its end.",
}
STATUSES = {
    "Retry-After": {"402", "409", "429", "502", "503", "504"},
    "WWW-Authenticate": {"401"},
}  # others: everywhere


@cache
def document() -> Schema:
    """The whole document: the same for every caller and in every language."""
    with translation.override("en"):
        return dict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]


class Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # the library's hook has no hints
    """The Authorization header, as ACCESS_MODE asks for it."""

    target_class = "access.authentication.CallerAuthentication"
    name = "bearer"

    def get_security_requirement(self, auto_schema: AutoSchema) -> Any:
        return [{"bearer": []}, {}] if settings.ACCESS_MODE == "open" else [{"bearer": []}]

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {"type": "http", "scheme": "bearer", "description": " ".join(KEYS[settings.ACCESS_MODE])}


def describe(endpoints: list[Endpoint]) -> list[Endpoint]:
    """drf-spectacular's first hook: the described stand-ins, in the order of OPERATIONS, then what nobody described."""
    found = {f"{method} {path.rstrip('/')}": (path, regex, method, view) for path, regex, method, view in endpoints}
    found["GET /health"] = ("/health", "^health/?$", "GET", APIView)  # a plain view, which drf-spectacular overlooks
    described = [stand_in(*found.pop(name), how) for name, how in OPERATIONS.items() if name in found]
    return [*described, *found.values()]


def stand_in(path: str, regex: str, method: str, view: Callable[..., Any], how: Describe) -> Endpoint:
    def handler(self: APIView) -> None:
        """Is never called."""

    described: type[APIView] = type("Described", (APIView,), {method.lower(): how(handler)})
    return path.rstrip("/"), regex, method, described.as_view()


def complete(result: Schema, **kwargs: Any) -> Schema:
    """drf-spectacular's last hook: the headers of requests and answers, and what the serializers check unseen by it."""
    result["components"] |= {"parameters": PARAMETERS, "headers": HEADERS}
    for operation in (operation for path in result["paths"].values() for operation in path.values()):
        operation.setdefault("parameters", []).extend(_refer("parameters", name) for name in PARAMETERS)
        for status, response in operation["responses"].items():
            names = [name for name in HEADERS if status in STATUSES.get(name, {status})]
            response.setdefault("headers", {}).update({name: _refer("headers", name) for name in names})
    for name in REQUESTS:
        properties = result["components"]["schemas"][name]["properties"]
        properties["message"]["pattern"] = r"\S"
        properties["session_id"] = SESSION_ID
        properties["after_turn"] = AFTER_TURN
    return {**result, "tags": TAGS}


def _refer(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
