"""Keys, tokens and passwords are masked in everything that is logged or goes to standard error.

Two ways: the exact values of the configured secrets, wherever they occur, and what looks like a secret of any kind.
"""

import html
import json
import re
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

MASK = "***"
MIN_SECRET_CHARS = 8  # characters; a configured secret that is shorter would be found in ordinary words

# Without what may stand before them: a long line of letters would be looked through once from each of its letters.
NAMES = (
    r"(?:passw(?:or)?d|secret(?:_?key)?|api[_-]key|(?:access|refresh|id|auth)_token"
    r"|csrf(?:middleware)?token|sessionid|(?:proxy-)?authorization|(?:set-)?cookie)"
)
A_NAME = re.compile(f"[a-z_-]{{0,64}}{NAMES}", re.IGNORECASE)
UP_TO_A_SPACE = r"""[^\s"'\\,;&<>]"""
STARTS = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"  # a word, also after an escaped line end or blank

# What no text may hold any of if it is to be spared a closer look: (Each costs every line a quarter of a microsecond.)
MARKS = (
    "bb_", "sk-", "gsk_", "bearer", "@", "passw", "secret", "api_key", "api-key", "_token", "csrf", "authorization",
    "cookie", "sessionid",
)  # fmt: skip
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Ours: the identifier names the key and opens nothing.
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

_hidden: list[str] = []  # the configured secrets in all their forms, the longest first


def hide(*secrets: str) -> None:
    """From now on, mask these values wherever they occur."""
    found = {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in forms_of(secret)}
    _hidden[:] = sorted({*_hidden, *found}, key=len, reverse=True)


def forms_of(secret: str) -> set[str]:
    """How a text may show it: as it is, or as Python, JSON, HTML or a URL write it."""
    written = {repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {secret, *written, html.escape(secret), quote(secret), quote(secret, safe=""), quote_plus(secret)}


def mask(text: str) -> str:
    """`text` with *** for what is or looks like a secret."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, MASK)
    lowered = text.lower()
    for mark in MARKS:
        if mark in lowered:
            return _looked_through(text)
    return text


def _looked_through(text: str) -> str:
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_all(value: Any) -> Any:
    """A value that is to become JSON, with all its texts masked, and what the name says to be a secret."""
    if isinstance(value, dict):
        return {mask(str(name)): MASK if A_NAME.fullmatch(str(name)) else mask_all(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(part) for part in value]
    return value if isinstance(value, int | float | None) else mask(str(value))


class MaskedStream:
    """A text stream that masks line by line: for what is written to standard error without being logged."""

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
    """The stream below, for what has been masked already."""
    return stream.unmasked if isinstance(stream, MaskedStream) else stream
