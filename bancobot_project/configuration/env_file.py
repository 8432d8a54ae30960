"""Reads the file of settings by the rules of python-dotenv, and refuses what these cannot read."""

import codecs
import io
import os
import re
from collections.abc import Collection
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from dotenv.parser import parse_stream

A_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*", re.ASCII)


ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=")
INNER_ASSIGNMENT = re.compile(r"(?<=\s)([A-Z][A-Z0-9_]*)=")
DOLLAR = re.compile(r"\$\{[A-Za-z_]|\$\(")
MOST_BYTES = 1_000_000


class EnvFile:
    """The file's values by name, and `notes` for the log. It names lines and never shows them: they may be secret."""

    def __init__(self, default: Path) -> None:
        self.path = _chosen(default)
        self.values: dict[str, str] = {}
        self.notes: list[str] = []
        if self.path is not None:
            self._read(self.path)

    def _read(self, path: Path) -> None:
        for binding in parse_stream(io.StringIO(_text_of(path))):
            name, line = binding.key, binding.original.line
            if not binding.error and name is None:  # an empty line, or a comment
                continue
            if binding.error or name is None or binding.value is None or not A_NAME.fullmatch(name):
                raise ImproperlyConfigured(
                    f"{path}, line {line}: this is no NAME=value. A value with quotes or # needs single "
                    "quotes around it; set and other commands of a shell are not understood."
                )
            if name == "ENV_FILE":
                raise ImproperlyConfigured(f"{path}, line {line}: ENV_FILE works only in the environment.")
            self._take(name, binding.value, line)

    def _take(self, name: str, value: str, line: int) -> None:
        """Of a name that comes twice the last value counts: people add lines at the end. An empty one is none."""
        before = self.values.get(name, "")
        if before.strip() and before != value:
            counts = "the last one counts" if value.strip() else "the last one is empty and does not count"
            self.notes.append(f"{self.path} has {name} again in line {line}: {counts}.")
        if value.strip() or not before.strip():
            self.values[name] = value

    def check(self, known: Collection[str]) -> None:
        """Raise `ImproperlyConfigured` for settings that the file holds and nobody would read."""
        for name, value in self.values.items():
            if name not in known and name.upper() in known:
                raise ImproperlyConfigured(f"{self.path}: {name} is written in capitals, {name.upper()}.")
            if hidden := _settings_in(value, known):
                raise ImproperlyConfigured(
                    f"{self.path}: the value of {name} has {hidden[0]}= inside. Each setting has a line of its own; "
                    "a quote that is not closed takes the next lines too."
                )
            if DOLLAR.search(value):
                self.notes.append(f"{name} has ${{…}} in {self.path}: it stays as it is, no variable takes its place.")


def _settings_in(value: str, known: Collection[str]) -> list[str]:
    """Settings that are set within a value: in lines of their own, or the longer names in the same line."""
    _first, *others = value.splitlines() or [""]  # among the ends of lines are some that python-dotenv does not know
    in_lines = [found[1] for line in others if (found := ASSIGNMENT.match(line))]
    inside = [name for name in INNER_ASSIGNMENT.findall(value) if "_" in name]
    return [name for name in in_lines + inside if name in known]


def _chosen(default: Path) -> Path | None:
    """The file that ENV_FILE names; the default one, if it is there, and be it a link that leads nowhere."""
    named = os.environ.get("ENV_FILE", "").strip()
    if not named:
        return default if os.path.lexists(default) else None
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise ImproperlyConfigured(f"ENV_FILE must be a path, not {named!r}: there is no such user.") from None


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as problem:
        raise ImproperlyConfigured(f"The file of settings {path} cannot be read: {problem.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise ImproperlyConfigured(f"The file of settings {path} has more than {MOST_BYTES:,} bytes.")
    # Windows' PowerShell and Notepad call UTF-16 "Unicode", and write its mark.
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ImproperlyConfigured(f"The file of settings {path} is not UTF-8 text: save it in that encoding.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
