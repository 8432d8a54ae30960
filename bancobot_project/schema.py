"""The published OpenAPI document.

The views know nothing of it. When drf-spectacular goes through the addresses, `describe` puts a described stand-in
(schema_operations.py) in the place of each view, and `complete` adds what all operations share. An address that nobody
described makes the generation warn, and so a test fail.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.utils import translation
from drf_spectacular.generators import SchemaGenerator
from rest_framework.views import APIView

from bancobot_project.schema_operations import OPERATIONS, TAGS, Describe
from web.openapi import Endpoint, Schema, trim

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


@cache
def document() -> Schema:
    """The whole document: the same for every caller and in every language."""
    with translation.override("en"):
        return dict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]


def describe(endpoints: list[Endpoint]) -> list[Endpoint]:
    """drf-spectacular's first hook: the described stand-ins, in the order of OPERATIONS, then what nobody described."""
    found = {f"{method} {path.rstrip('/')}": (path, regex, method, view) for path, regex, method, view in endpoints}
    described = [stand_in(*found.pop(name), how) for name, how in OPERATIONS.items() if name in found]
    return [*described, *trim(list(found.values()))]


def stand_in(path: str, regex: str, method: str, view: Callable[..., Any], how: Describe) -> Endpoint:
    def handler(self: APIView) -> None:
        """Is never called."""

    described: type[APIView] = type("Described", (APIView,), {method.lower(): how(handler)})
    return path.rstrip("/"), regex, method, described.as_view()


def complete(result: Schema, **kwargs: Any) -> Schema:
    """drf-spectacular's last hook: the headers of requests and answers, and what the serializers check unseen by it."""
    for name in REQUESTS:
        properties = result["components"]["schemas"][name]["properties"]
        properties["message"]["pattern"] = r"\S"
        properties["session_id"] = SESSION_ID
        properties["after_turn"] = AFTER_TURN
    return {**result, "tags": TAGS}
