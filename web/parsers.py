"""Parses a request's JSON, refuses values that can't be stored, and reads the Accept header."""

import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate
from types import SimpleNamespace
from typing import IO, Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser

from web.errors import ApiError

MAX_DEPTH = 32  # nested arrays and objects
MAX_VALUES = 10_000  # of all arrays and objects together
MAX_NUMBER_CHARS = 400  # the largest double, written out, has 309

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}
_NO_MARKS = bytes(set(range(256)) - {ord('"'), *_STEPS})


def _whole(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise ValueError("too long")
    return int(digits)


def _real(digits: str) -> float:
    number = float(digits) if len(digits) <= MAX_NUMBER_CHARS else math.inf
    if not math.isfinite(number):  # such as 1e999, which no database's JSON can hold
        raise ValueError("too large")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


# json.loads would make a decoder for each request
_decode = json.JSONDecoder(parse_int=_whole, parse_float=_real, parse_constant=_refuse_constant).decode


class AcceptHeader(DefaultContentNegotiation):
    """Only the Accept header chooses the answer's type; DRF would also use `?format=`."""

    settings: Any = SimpleNamespace(URL_FORMAT_OVERRIDE=None)


class StrictJSONParser(BaseParser):
    """JSON in UTF-8, whatever charset the request names; no NUL, no lone surrogate, no NaN, no deep nesting."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return parse_json(stream.read())


def parse_json(body: bytes) -> Any:
    """The value in `body`; raises `ApiError`. Refuses a costly body before it is parsed."""
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MAX_DEPTH or brackets + body.count(b",") > MAX_VALUES:
        _check_shape(body)
    try:
        text = body.decode()
        value = _decode(text)
    except (ValueError, RecursionError) as problem:
        raise ApiError("invalid_request", detail_code="malformed_json") from problem
    if "\\u" in text and any(map(_UNSTORABLE.search, _texts(value))):
        # only an escape can produce what UTF-8 and JSON do not allow
        raise ApiError("invalid_request", detail_code="unstorable_text")
    return value


def parse_line(line: bytes) -> Any:
    """The value in a line of a trusted file: like `parse_json`, but of any size. Raises `ValueError`."""
    try:
        text = line.decode()
        value = _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\u" in text and any(map(_UNSTORABLE.search, _texts(value))):
        raise ValueError("text that can't be stored")
    return value


def _check_shape(body: bytes) -> None:
    """Refuse too many or too deeply nested values. Counts brackets and commas outside of strings.

    A body of 1 MiB can hold 350,000 empty arrays, which would cost the parser 30 MB and a third of a second.
    """
    marks = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS)
    if marks.count(b'"') > 4 * (MAX_VALUES + 1):  # a value has at most four: two of its own and two of its name
        raise ApiError("invalid_request", detail_code="large_json")
    outside = b"".join(marks.split(b'"')[::2])
    if len(outside) > 2 * MAX_VALUES or sum(map(outside.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise ApiError("invalid_request", detail_code="large_json")
    if max(accumulate(map(_STEPS.__getitem__, outside)), default=0) > MAX_DEPTH:
        raise ApiError("invalid_request", detail_code="deep_json")


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value, including names; without recursion and without copies."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
