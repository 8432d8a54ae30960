"""Finds out by its first bytes what a body is, and cuts one that is no event stream into JSON documents."""

import json

from .sse import MAX_EVENT_BYTES, EventParser, is_json

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SPACE = b" \t\r\n\x1e"  # with the separator of JSON text sequences, RFC 7464

_decoder = json.JSONDecoder()


class HtmlError(ValueError):
    """The body is a page for a browser."""


class LineParser:
    """Reads documents that stand one to a line, or a single one that spans lines. The first line tells which.

    `is_whole`: there was one document. Raises `ValueError` when one grows beyond `MAX_EVENT_BYTES`.
    """

    __slots__ = ("_count", "_rest", "_spans")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._count = 0
        self._spans = False  # the first document spans lines: only the body's end completes it

    @property
    def is_whole(self) -> bool:
        return self._count == 1

    def feed(self, chunk: bytes) -> list[bytes]:
        self._rest += chunk
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError("document too large")
        if self._spans or b"\n" not in chunk:
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        documents = [line for line in map(_without_field, lines) if line]
        if documents and not self._count and not is_json(documents[0]):
            self._spans = True
            return []
        self._rest = bytearray(rest)
        self._count += len(documents)
        return documents

    def finish(self) -> list[bytes]:
        rest = _without_field(bytes(self._rest))
        documents = list(_concatenated(rest)) if not self._count else [rest] if rest else []
        self._count += len(documents)
        return documents


def open_body(head: bytes) -> tuple[EventParser | LineParser, bytes] | None:
    """The parser for a body that begins with `head`, and what it gets first. `None`: too little is known yet.

    Raises `HtmlError` for a page.
    """
    if BYTE_ORDER_MARK.startswith(head[:3]) and len(head) < len(BYTE_ORDER_MARK):
        return None
    text = head
    while text.startswith(BYTE_ORDER_MARK):
        text = text.removeprefix(BYTE_ORDER_MARK)
    first = text.lstrip(SPACE)[:1]
    if not first:
        return None
    if first == b"<":
        raise HtmlError
    return LineParser() if first in (b"{", b"[") and not text.lstrip(SPACE).startswith(
        b"[DONE"
    ) else EventParser(), text


def _without_field(line: bytes) -> bytes:
    """A line without white space and a field's name; empty where it is a comment or another field."""
    line = line.strip(SPACE).removeprefix(b"data:").lstrip()
    return line if line[:1] in (b"{", b"[") else b""


def _concatenated(body: bytes) -> list[bytes]:
    """Documents that stand one behind the other. What is no JSON stays as it is."""
    text, documents = body.decode("utf-8", "surrogateescape"), []
    while text:
        try:
            _, end = _decoder.raw_decode(text)
        except (ValueError, RecursionError):
            end = len(text)
        documents.append(text[:end].encode("utf-8", "surrogateescape"))
        text = text[end:].lstrip(" \t\r\n,")
    return documents
