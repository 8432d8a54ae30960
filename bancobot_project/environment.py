"""Strict reading of environment variables: an invalid value stops the start and names the allowed ones."""

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from web.redaction import hide

BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Environment:
    """The process's variables, which override those of an optional `.env` file. `names` lists the variables read.

    An empty value counts as unset, so that `KEY=` in a compose file or in `.env` means the default.
    """

    def __init__(self, env_file: Path) -> None:
        self.names: list[str] = []
        if env_file.is_file():
            environ.Env.read_env(str(env_file))
        self._env = environ.Env()

    def text(self, name: str, default: str = "") -> str:
        self.names.append(name)
        value = os.environ.get(name, "").strip() or default
        if "KEY" in name:
            hide(value)
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
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
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal(-1)
        if not 0 <= amount <= most:  # NaN fails too
            self._refuse(name, value, f"a number from 0 to {most}")
        return amount

    def hours(self, name: str, default: float, low: float = 0) -> float:
        """A number of hours, at most ten years."""
        return self._number(name, default, low, 87_600, float)

    def hours_if_set(self, name: str, low: float) -> float | None:
        if not os.environ.get(name, "").strip():
            self.names.append(name)
            return None
        return self.hours(name, low, low)

    def listing(self, name: str, default: list[str]) -> list[str]:
        """A comma-separated list."""
        value = self.text(name)
        return [part.strip() for part in value.split(",") if part.strip()] if value else default

    def url(self, name: str, default: str) -> str:
        value = self.text(name, default).rstrip("/")
        if not _names_a_host(value) or any(mark in value for mark in "?#@ "):
            self._refuse(name, value, "an http:// or https:// address without user, query or fragment")
        return value

    def database(self, name: str, default: str) -> dict[str, Any]:
        """Django's settings for the database at a URL: sqlite:///file or postgres://…"""
        url = self.text(name, default)
        if not url.startswith(("sqlite://", "postgres://", "postgresql://")):
            raise ImproperlyConfigured(f"{name} must begin with sqlite:///, postgres:// or postgresql://.")
        try:
            found, parts = dict(self._env.db_url_config(url)), urlsplit(url)
        except ValueError:  # its message may quote part of the password
            found, parts = {}, urlsplit("")
        if not found or (parts.scheme != "sqlite" and "@" in parts.path + parts.query + parts.fragment):
            raise ImproperlyConfigured(f"{name} is no URL. In a password, / is written %2F, # %23, ? %3F and @ %40.")
        hide(found.get("PASSWORD", ""), parts.password or "")
        return found

    def _number(self, name: str, default: float, low: float, high: float, kind: type[int] | type[float]) -> float:
        value = self.text(name, str(default))
        try:
            number = kind(value)
        except ValueError:
            number = kind(-1) if low >= 0 else kind(low - 1)
        if not low <= number <= high:
            self._refuse(name, value, f"a {'whole ' if kind is int else ''}number from {low:g} to {high:g}")
        return number

    def _refuse(self, name: str, value: str, allowed: str) -> None:
        shown = "" if "KEY" in name or "@" in value else f", not {value!r}"  # an address may contain a password
        raise ImproperlyConfigured(f"{name} must be {allowed}{shown}.")


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is not a number
        return False
