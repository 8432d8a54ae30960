"""Reads a request's JSON and refuses what could not be stored; reads what kind of answer is wanted."""

import json
from types import SimpleNamespace
from typing import IO, Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser

from bancobot_project.errors import ApiError

DEEPEST = 32  # nested arrays and objects


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode  # json.loads would make a decoder for every request


class AcceptHeader(DefaultContentNegotiation):
    """The Accept header alone says what kind of answer is wanted; DRF would also listen to `?format=`."""

    settings: Any = SimpleNamespace(URL_FORMAT_OVERRIDE=None)


class StrictJSONParser(BaseParser):
    """JSON in UTF-8, whatever charset the request claims; no NUL, no lone surrogate, no NaN, no deep nesting."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_json(stream.read())


def parse_json(body: bytes) -> Any:
    """The value in `body`; raises `ApiError`."""
    try:
        text = body.decode()
        value = _decode(text)
    except (ValueError, RecursionError) as problem:
        raise ApiError("invalid_request", detail_code="malformed_json") from problem
    if text.count("{") + text.count("[") > DEEPEST and _depth(value) > DEEPEST:
        raise ApiError("invalid_request", detail_code="deep_json")
    if "\\u" in text:  # only an escape can bring what UTF-8 and JSON do not allow
        _check_storable(value)
    return value


def _depth(value: Any) -> int:
    """How deep arrays and objects are nested, without recursion."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def _check_storable(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise ApiError("invalid_request", detail_code="unstorable_text") from problem
    if "\\u0000" in text.replace("\\\\", ""):  # json.dumps writes NUL as this escape
        raise ApiError("invalid_request", detail_code="unstorable_text")
