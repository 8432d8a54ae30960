"""What schemathesis cannot read in the published document, which says it in words. schemathesis loads this file.

OpenAPI 3.1 has no way to describe the events of a stream, and none to say which error codes go with a status.
"""

import re
from collections.abc import Iterator
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

Schema = dict[str, Any]
EVENTS = "text/event-stream"
COMPONENTS = "#/components/schemas"
START: Schema = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("turn_id", "session_id", "model")},
    "required": ["turn_id", "session_id", "model"],
    "additionalProperties": False,
}
DELTA: Schema = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1}},
    "required": ["text"],
    "additionalProperties": False,
}

A_STREAM: Schema = {
    "type": "array",
    "contains": {"properties": {"event": {"enum": ["done", "error"]}}},
    "maxContains": 1,
}


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: Schema) -> None:
    for _, response in responses(raw_schema):
        content = response.get("content", {})
        if EVENTS in content:
            answer = content.get("application/json", {}).get("schema", {"$ref": f"{COMPONENTS}/ChatAnswer"})
            content[EVENTS] |= {"schema": A_STREAM, "itemSchema": an_event(answer)}


def responses(document: Schema) -> Iterator[tuple[str, Schema]]:
    for path in document["paths"].values():
        for operation in path.values():
            yield from operation["responses"].items()


def an_event(answer: Schema) -> Schema:
    """One event of a turn's stream, whose `done` carries what there would have been as JSON."""
    bodies = {"start": START, "delta": DELTA, "done": answer, "error": {"$ref": f"{COMPONENTS}/Error"}}
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": {"enum": list(bodies)}, "id": {"pattern": "^[0-9]{1,9}$"}},
        "allOf": [_if_event(name, body) for name, body in bodies.items()],
    }


def _if_event(name: str, body: Schema) -> Schema:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": body}
    return {
        "if": {"properties": {"event": {"const": name}}},
        "then": {"properties": {"data": data}, "required": ["id"] if name in ("delta", "done") else []},
    }


@schemathesis.check
def error_code_conformance(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """An error has one of the codes that the document names for its status, and the id of its request."""
    described = case.operation.definition.raw["responses"].get(str(response.status_code))
    if response.status_code < 400 or described is None:  # another check finds undescribed answers
        return None
    body = response.json()
    if "checks" in body:  # /health has its own form of an error
        return None
    codes = re.findall(r"`(\w+)`", described["description"])
    assert body["code"] in codes, f"{body['code']} is none of {codes}"
    assert [body["request_id"]] == response.headers["x-request-id"]
    return None
