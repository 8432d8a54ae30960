"""Strict reading of environment variables: an invalid value stops the start and names the allowed ones."""

import json
import os
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.env_file import EnvFile
from bancobot_project.configuration.hosts import OURS, allowed_host, base_path, listening_host, origin
from bancobot_project.configuration.names import nearest
from web.redaction import hide

A_WHOLE = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)  # Python alone would read 1_000 and ١ too
A_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?", re.ASCII)
SENDABLE = re.compile(r"[!-~]*", re.ASCII)  # what a header can carry, without spaces
MAX_MODEL_CHARS = 200  # as in a request
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Environment:
    """The process's variables, which override those of an optional `.env` file. `names` lists the variables read.

    An empty value counts as unset, so that `KEY=` in a compose file or in `.env` means the default.
    """

    def __init__(self, env_file: Path) -> None:
        self.names: list[str] = []
        self._file = EnvFile(env_file)
        self._put_right: list[str] = []
        self._from_file = [name for name in self._file.values if not os.environ.get(name, "").strip()]
        for name in self._from_file:
            try:
                os.environ[name] = self._file.values[name]
            except UnicodeEncodeError:
                raise ImproperlyConfigured(f"{name} has letters that this locale lacks: set LC_ALL=C.UTF-8.") from None

    def text(self, name: str, default: str = "") -> str:
        self.names.append(name)
        value = self._value(name)
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            self._refuse(name, value, "UTF-8 text", is_secret=True)
        value = value or default
        if "KEY" in name:
            hide(value)
        return value

    def key(self, name: str) -> str:
        """A key that goes into a header; empty unless set."""
        value = self.text(name)
        if not SENDABLE.fullmatch(value) or value.startswith(("$", "'", '"')):
            self._refuse(name, value, "a key as the provider gave it: ASCII letters, digits and signs, without spaces")
        return value

    def _value(self, name: str) -> str:
        value = os.environ.get(name, "").strip()
        return value if name in self._from_file else _without_quotes(value)

    def is_inherited(self, name: str) -> bool:
        """Whether whoever started the process has set it, perhaps without a wish to."""
        return name not in self._from_file and self.is_set(name)

    def is_set(self, name: str) -> bool:
        return bool(self._value(name))

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        value = next((choice for choice in allowed if choice.lower() == value.lower()), value)
        if value not in allowed:
            self._refuse(name, value, "one of " + ", ".join(choice or '""' for choice in allowed))
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in BOOLEANS:
            self._refuse(name, value, "true or false")
        return BOOLEANS[value]

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        return int(self._number(name, default, low, high, int))

    def seconds(self, name: str, default: float, low: float, high: float) -> float:
        return self._number(name, default, low, high, float)

    def amount(self, name: str, most: int) -> Decimal:
        """US dollars, exactly; 0 unless set."""
        value = self.text(name, "0")
        amount = Decimal(value) if A_NUMBER.fullmatch(value) else Decimal(-1)
        if not 0 <= amount <= most:
            self._refuse(name, value, f"a number from 0 to {most}")
        return amount

    def hours(self, name: str, default: float, low: float = 0) -> float:
        """A number of hours, at most ten years."""
        return self._number(name, default, low, 87_600, float)

    def hours_if_set(self, name: str, low: float) -> float | None:
        if not self.is_set(name):
            self.names.append(name)
            return None
        return self.hours(name, low, low)

    def folder(self, name: str, default: Path) -> Path:
        """A folder that is made if it is missing, readable only by its owner. A relative one is beside the default."""
        path = default.parent / self.path(name, str(default))
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            self._refuse(name, str(path), f"a folder that can be made ({problem.strerror})")
        if not os.access(path, os.W_OK | os.X_OK):
            self._refuse(name, str(path), "a folder that can be written to")
        return path

    def path(self, name: str, default: str) -> Path:
        value = self.text(name, default)
        if not value.isprintable() or value.startswith("$"):
            self._refuse(name, value, "a path (~ is a home, and $ names no variable)")
        try:
            return Path(value).expanduser()
        except RuntimeError:
            self._refuse(name, value, "a path: there is no such user")

    def host(self, name: str, default: str) -> str:
        """An address or a name to listen on."""
        value = self.text(name, default)
        try:
            return listening_host(value)
        except ValueError:
            self._refuse(name, value, "an address or a host's name, without a port or a zone")

    def base_path(self, name: str) -> str:
        """The path under which browsers find the service; empty unless set."""
        value = self.text(name)
        try:
            path = base_path(value)
        except ValueError:
            signs = "a path such as /bot, of letters, digits, - and _"
            self._refuse(name, value, f"{signs}, and not under one of the service's own ({', '.join(OURS)})")
        if path != value:
            self._put_right.append(f"{name} has {value!r}, which is read as {path!r}.")
        return path

    def hosts(self, name: str, default: list[str]) -> list[str]:
        return self._each(name, default, allowed_host, "host names such as chat.bank.example, without https://")

    def origins(self, name: str, *, domains: bool = False) -> list[str]:
        """Origins of pages, as browsers send them. `domains`: `https://*.bank.example` names a whole domain."""
        form = partial(origin, domains=domains)
        return self._each(name, [], form, "origins such as https://www.bank.example, each with its http:// or https://")

    def _each(self, name: str, default: list[str], form: Callable[[str], str], allowed: str) -> list[str]:
        found = []
        for value in self.listing(name, default):
            try:
                found.append(form(value))
            except ValueError:  # among them UnicodeError
                self._refuse(name, value, f"a list of {allowed}, with commas between them")
            if found[-1] != value.lower():
                self._put_right.append(f"{name} has {value!r}, which is read as {found[-1]!r}.")
        return found

    def notes(self) -> list[str]:
        """What the log should say of the variables, after all have been read.

        Raises `ImproperlyConfigured` for settings that are in the file, and were not read as it has them.
        """
        self._file.check(self.names)
        others = sorted({*os.environ, *self._file.values} - {*self.names})
        found = {name: nearest(name, self.names, in_file=name in self._file.values) for name in others}
        misspelt = [f"{name} is no setting of this service. Is {near} meant?" for name, near in found.items() if near]
        return [*self._file.notes, *self._put_right, *misspelt]

    def listing(self, name: str, default: list[str]) -> list[str]:
        """A comma-separated list."""
        value = self.text(name)
        parts: list[str] = environ.Env.parse_value(value, list)
        return [part.strip() for part in parts if part.strip()] if value else default

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        """A comma-separated list of some of `allowed`; empty unless set."""
        chosen = self.listing(name, [])
        for value in chosen:
            if value not in allowed:
                self._refuse(name, value, "a list out of " + ", ".join(allowed))
        return chosen

    def parameters(self, name: str, taken: tuple[str, ...]) -> dict[str, Any]:
        """A JSON object of a request's parameters, none of them `taken`; nothing unless set. It may hold secrets."""
        try:
            found = json.loads(self.text(name, "{}"), object_pairs_hook=_unique)
            json.dumps(found, allow_nan=False)  # Python reads numbers that JSON does not have
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not found.keys().isdisjoint(taken):
            raise ImproperlyConfigured(f"{name} must be a JSON object without {', '.join(taken)}.")
        return found

    def text_or_none(self, name: str, default: str) -> str:
        """As `text`, but "none" is an empty text."""
        value = self.text(name, default)
        return "" if value.lower() == "none" else value

    def model_lists(self, name: str, most: int) -> dict[str, list[str]]:
        """A JSON object that gives each model up to `most` others; nothing unless set."""
        value = self.text(name, "{}")
        try:
            lists = json.loads(value, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            lists = None
        if not _are_model_lists(lists, most):
            self._refuse(name, value, f'a JSON object such as {{"a model": ["another"]}}, each with at most {most}')
        return cast(dict[str, list[str]], lists)

    def url(self, name: str, default: str) -> str:
        value = self.text(name, default).rstrip("/")
        if not _names_a_host(value) or any(mark in value for mark in "?#@ "):
            self._refuse(name, value, "an http:// or https:// address without user, query or fragment")
        return value

    def _number(self, name: str, default: float, low: float, high: float, kind: type[int] | type[float]) -> float:
        value = self.text(name, str(default))
        number = (
            environ.Env.parse_value(value, kind)
            if (A_WHOLE if kind is int else A_NUMBER).fullmatch(value)
            else kind(low - 1)
        )
        if not low <= number <= high:
            self._refuse(name, value, f"a {'whole ' if kind is int else ''}number from {low} to {high}")
        return number

    def _refuse(self, name: str, value: str, allowed: str, *, is_secret: bool = False) -> NoReturn:
        shown = (
            "" if is_secret or "KEY" in name or "@" in value else f", not {value!r}"
        )  # an address may contain a password
        raise ImproperlyConfigured(f"{name} must be {allowed}{shown}.")


def _without_quotes(value: str) -> str:
    """`docker --env-file` keeps the quotes around a value. Two quoted words in one value are none around it."""
    mark = value[:1]
    quoted = len(value) > 1 and mark in ("'", '"') and value.endswith(mark) and mark not in value[1:-1]
    return value[1:-1].strip() if quoted else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a name that comes twice, JSON would keep the last value and say nothing."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def _are_model_lists(lists: Any, most: int) -> bool:
    """Whether it maps models to lists of others: real names, none twice and none of itself."""
    if not isinstance(lists, dict) or not all(isinstance(others, list) for others in lists.values()):
        return False
    named = [[model, *others] for model, others in lists.items()]
    return all(
        len(names) <= most + 1 and all(map(_is_model, names)) and len(set(names)) == len(names) for names in named
    )


def _is_model(name: Any) -> bool:
    return isinstance(name, str) and name.strip() != "" and len(name) <= MAX_MODEL_CHARS


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is not a number
        return False
