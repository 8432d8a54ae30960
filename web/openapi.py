"""The parts of the published OpenAPI document that all endpoints share, and drf-spectacular's two hooks."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

Schema = dict[str, Any]
Endpoint = tuple[str, str, str, Callable[..., Any]]  # path, its regular expression, method, view
JSON, EVENTS = "application/json", "text/event-stream"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
REQUEST_ID = "5f1d0c9ab2e47d63"

PARAMETERS: Schema = {
    "X-Request-ID": {
        "in": "header",
        "name": "X-Request-ID",
        "description": "Your own id for the request, for the answer and the server's log: 1 to 128 characters out of "
        "A-Z a-z 0-9 . _ : - (anything else is ignored).",
        "schema": {"type": "string"},
        "example": REQUEST_ID,
    },
    "Accept-Language": {
        "in": "header",
        "name": "Accept-Language",
        "description": "The language of errors' `detail`: Brazilian Portuguese, or English.",
        "schema": {"type": "string", "default": "pt-BR"},
        "example": "pt-BR",
    },
}
NUMBER = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}
SECONDS = {"type": "integer", "minimum": 0}
HEADERS: Schema = {
    "X-Request-ID": {
        "description": "The request's id: yours, or one that the server made.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Retry-After": {
        "description": "Seconds after which it is worth trying again, where that is known.",
        "schema": SECONDS,
    },
    "RateLimit-Limit": {
        "description": "The limit that is nearest to this answer, where the caller has one: requests per minute, or "
        "the one that `limit` names.",
        "schema": NUMBER,
    },
    "RateLimit-Remaining": {"description": "What is left of it.", "schema": NUMBER},
    "RateLimit-Reset": {"description": "Seconds until it counts anew.", "schema": SECONDS},
    "WWW-Authenticate": {
        "description": "How to say who is calling.",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
    },
}
STATUSES = {
    "Retry-After": {"402", "409", "429", "502", "503", "504"},
    "WWW-Authenticate": {"401"},
}  # the other headers come with every status


def arrange(endpoints: list[Endpoint]) -> list[Endpoint]:
    """drf-spectacular's first hook: removes trailing slashes, and sorts methods, which the library keeps in a set."""
    places = {path: place for place, (path, *_) in enumerate(endpoints)}
    endpoints.sort(key=lambda endpoint: (places[endpoint[0]], METHODS.index(endpoint[2])))
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


def complete(result: Schema, **kwargs: Any) -> Schema:
    """drf-spectacular's last hook: adds the headers that all requests and answers share."""
    result["components"] |= {"parameters": PARAMETERS, "headers": HEADERS}
    for operation in (operation for path in result["paths"].values() for operation in path.values()):
        parameters = operation.setdefault("parameters", [])
        for parameter in parameters:
            if "enum" in parameter["schema"]:
                parameter["schema"].pop("minLength", None)  # the library adds it to every choice
        parameters += [_refer("parameters", name) for name in PARAMETERS]
        for status, response in operation["responses"].items():
            names = [name for name in HEADERS if status in STATUSES.get(name, {status})]
            response.setdefault("headers", {}).update({name: _refer("headers", name) for name in names})
    return result


def _refer(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def examples_of(values: dict[str, Any], **more: Any) -> list[OpenApiExample]:
    return [OpenApiExample(title, value, **more) for title, value in values.items()]


def answer(
    serializer: Any, shown: dict[str, Any], status: int = 200, description: str = "OK"
) -> dict[Any, OpenApiResponse]:
    """A JSON answer; `shown` are examples by title."""
    return {(status, JSON): OpenApiResponse(serializer, description, examples_of(shown, response_only=True))}


def path_parameter(name: str, title: str, example: str, **schema: Any) -> OpenApiParameter:
    """A part of the path, with an example."""
    return OpenApiParameter(
        name, {"type": "string", **schema}, OpenApiParameter.PATH, examples=[OpenApiExample(title, example)]
    )


def answer_header(name: str, description: str, schema: Schema) -> OpenApiParameter:
    """A header of answers with the status 200."""
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, response=[200])


class Count(serializers.IntegerField):
    """A number that is never negative."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, **kwargs)
