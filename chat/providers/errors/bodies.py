"""What the body of an error says, whatever its shape: names, words, a status and waiting times."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 8
MAX_VALUES = 500
MAX_WORDS = 3_000  # characters
NAME = re.compile(r"[A-Za-z][A-Za-z_.]{0,63}")  # no digits or hyphens, so that no key passes for a name

NAME_KEYS = {"type", "code", "status", "reason", "error_type", "error_code", "errorcode", "err_code"}
STATUS_KEYS = {"code", "status", "status_code", "statuscode", "http_status", "error_code"}
WORD_KEYS = {
    "message", "msg", "error", "error_message", "errormessage", "error_msg", "status_msg", "detail", "details",
    "description", "error_description", "title", "reason", "raw", "cause", "body", "errors", "code",
}  # fmt: skip
# The length of a pause; in these the number counts milliseconds where the name says so.
WAIT_KEYS = {
    "retry_after", "retryafter", "retry_after_seconds", "retry_after_ms", "retrydelay", "retry_in", "resets_in_seconds",
    "estimated_time",
}  # fmt: skip
# Never walked into: what people wrote.
PRIVATE_KEYS = {"flagged_input", "input", "url", "messages", "prompt", "choices", "usage"}


@dataclass(slots=True)
class Heard:
    """What was found in a body. `names` are in lower case. `labels` are those that a log may show.

    `waits`: names and values of pauses; `headers`: those that a gateway has quoted. `has_reasons`: moderation
    gives some.
    """

    names: set[str] = field(default_factory=set)
    labels: list[str] = field(default_factory=list)
    words: str = ""
    status: int = 0
    waits: list[tuple[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    has_reasons: bool = False
    values: int = 0


def hear(body: Any) -> Heard:
    """All that an error's body says: an object, a list, or text."""
    heard = Heard()
    _walk(body, heard, "message", 0)
    return heard


def parsed(body: bytes) -> Any:
    """A body as JSON, or as the text that it is."""
    text = body.decode("utf-8-sig", "replace").strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def is_error(body: Mapping[str, Any]) -> bool:
    """Whether a document within a 200 is an error."""
    if body.get("error") or body.get("errors") or body.get("error_message") or body.get("error_msg"):
        return True
    if body.get("object") == "error" or body.get("type") == "error" or body.get("status") in ("error", "failed"):
        return True
    base = body.get("base_resp")  # MiniMax
    if isinstance(base, dict) and base.get("status_code"):
        return True
    if body.get("choices"):
        return False
    said = body.get("message") or body.get("msg")
    failed = body.get("success") is False or body.get("error_type") or body.get("error_code") or body.get("detail")
    return bool(failed or (said and body.get("code") not in (None, 0, 200, "0", "200", "", "ok", "success")))


def _walk(value: Any, heard: Heard, key: str, depth: int) -> None:
    heard.values += 1
    if depth > MAX_DEPTH or heard.values > MAX_VALUES:
        return
    if isinstance(value, dict):
        for name in sorted(value, key=lambda each: str(each) != "type"):
            _walk_entry(str(name).lower(), value[name], heard, depth)
    elif isinstance(value, list):
        for part in value:
            _walk(part, heard, key, depth + 1)
    elif isinstance(value, str) and key in WORD_KEYS:
        _take_words(value, heard, depth)


def _walk_entry(key: str, value: Any, heard: Heard, depth: int) -> None:
    if key in PRIVATE_KEYS:
        return
    if key in WAIT_KEYS:
        heard.waits.append((key, value.get("seconds") if isinstance(value, dict) else value))
    if key == "headers" and isinstance(value, dict):
        heard.headers.update({str(name).lower(): str(each) for name, each in value.items()})
        return
    heard.has_reasons = heard.has_reasons or (key == "reasons" and bool(value))
    if key == "@type" and isinstance(value, str):
        heard.names.add(value.rpartition(".")[2].lower())
    if key == "base_resp" and isinstance(value, dict):
        heard.names.add(f"minimax {value.get('status_code')}")
    if key in STATUS_KEYS and str(value).isdecimal() and len(str(value)) == 3 and not isinstance(value, bool):
        heard.status = heard.status or int(str(value))
    if key in NAME_KEYS and isinstance(value, str | int) and not isinstance(value, bool):
        _take_name(str(value), heard, is_label=key in ("type", "code"))
    _walk(value, heard, key, depth + 1)


def _take_name(name: str, heard: Heard, *, is_label: bool) -> None:
    heard.names.add(name.lower())
    if is_label and len(heard.labels) < 4 and (NAME.fullmatch(name) or (name.isdecimal() and len(name) <= 5)):
        heard.labels.append(name)


def _take_words(text: str, heard: Heard, depth: int) -> None:
    """Words, or JSON that a gateway has put into them."""
    start = text.find("{")
    if start >= 0:
        try:
            inner, _ = json.JSONDecoder().raw_decode(text[start:])
        except (ValueError, RecursionError):
            inner = None
        if isinstance(inner, dict):
            _walk(inner, heard, "message", depth + 1)
    if len(heard.words) < MAX_WORDS:
        heard.words += f" {text[:MAX_WORDS]}"
