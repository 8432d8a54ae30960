"""Masks keys, tokens and passwords in the log and on standard error.

It masks the exact values of the configured secrets, and all texts that look like a secret.
"""

import html
import json
import re
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

MASK = "***"
MIN_SECRET_CHARS = 8  # a shorter configured secret could occur in ordinary words

# Without a pattern for a prefix: it would scan a long word once from each of its letters.
NAMES = (
    r"(?:passw(?:or)?d|secret(?:_?key)?|api[_-]key|(?:access|refresh|id|auth)_token"
    r"|csrf(?:middleware)?token|sessionid|(?:proxy-)?authorization|(?:set-)?cookie)"
)
A_NAME = re.compile(f"[a-z_-]{{0,64}}{NAMES}", re.IGNORECASE)
UP_TO_A_SPACE = r"""[^\s"'\\,;&<>]"""
STARTS = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"  # a word, also after an escaped line end or blank

# A text without any of these marks needs no closer look. (Each mark costs every line a quarter of a microsecond.)
MARKS = (
    "bb_", "sk-", "gsk_", "bearer", "@", "passw", "secret", "api_key", "api-key", "_token", "csrf", "authorization",
    "cookie", "sessionid",
)  # fmt: skip
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # BancoBot's keys: the identifier names the key and is no secret.
    (re.compile(r"\bbb_([a-z0-9]{12})_[A-Za-z0-9_-]+"), rf"bb_\1_{MASK}"),
    (re.compile(STARTS + r"bb_(?![a-z0-9]{12}(?:_\*|_…|_?[^A-Za-z0-9_-]|_?$))[A-Za-z0-9_-]+"), f"bb_{MASK}"),
    (re.compile(STARTS + r"(gsk_|sk-)[A-Za-z0-9_-]{8,}"), rf"\1{MASK}"),
    (re.compile(rf"(bearer(?:\s+|%20|\+)){UP_TO_A_SPACE}{{4,}}", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"""(://[^\s/:@"'<>]{0,200}):[^\s"'<>]{0,500}@"""), rf"\1:{MASK}@"),
    (
        re.compile(rf"""({NAMES}(?:\\*["']?\s*[:=]\s*b?\\*["']|["'],\s*b["']))[^"'\\]+""", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (re.compile(rf"({NAMES}\s*[:=]\s*)(?:(?:basic|bearer|token)\s+)?{UP_TO_A_SPACE}+", re.IGNORECASE), rf"\1{MASK}"),
)

_hidden: list[str] = []  # the configured secrets in all their forms, longest first


def hide(*secrets: str) -> None:
    """Mask these values from now on."""
    found = {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in forms_of(secret)}
    _hidden[:] = sorted({*_hidden, *found}, key=len, reverse=True)


def forms_of(secret: str) -> set[str]:
    """The secret as plain text, and as Python, JSON, HTML and URLs write it."""
    written = {repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {secret, *written, html.escape(secret), quote(secret), quote(secret, safe=""), quote_plus(secret)}


def mask(text: str) -> str:
    """`text` with *** for everything that is or looks like a secret."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, MASK)
    lowered = text.lower()
    for mark in MARKS:
        if mark in lowered:
            return _mask_patterns(text)
    return text


def _mask_patterns(text: str) -> str:
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_all(value: Any) -> Any:
    """A value for JSON with all its texts masked, and the values of secret names."""
    if isinstance(value, dict):
        return {mask(str(name)): MASK if A_NAME.fullmatch(str(name)) else mask_all(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(part) for part in value]
    return value if isinstance(value, int | float | None) else mask(str(value))


class MaskedStream:
    """A text stream that masks line by line, for output to standard error that is not logged."""

    def __init__(self, stream: TextIO) -> None:
        self.unmasked = stream
        self._line = ""

    def write(self, text: str) -> int:
        whole, end, self._line = (self._line + text).rpartition("\n")
        if end:
            self.unmasked.write(mask(whole) + end)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        rest, self._line = self._line, ""
        self.unmasked.write(mask(rest))
        self.unmasked.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unmasked, name)


def masked(stream: TextIO) -> TextIO:
    return cast(TextIO, MaskedStream(stream))


def unmasked(stream: TextIO) -> TextIO:
    """The stream below the mask, for text that is masked already."""
    return stream.unmasked if isinstance(stream, MaskedStream) else stream
