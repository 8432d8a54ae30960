"""Reads the file of settings by the rules of python-dotenv, and refuses what these cannot read."""

import io
import os
import re
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from dotenv.parser import parse_stream

A_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*", re.ASCII)


def chosen_file(default: Path) -> Path | None:
    """The file that ENV_FILE names; the default one, if it is there."""
    named = os.environ.get("ENV_FILE", "").strip()
    if not named and not default.exists():
        return None
    return Path(named).expanduser() if named else default


def values_of(path: Path) -> dict[str, str]:
    """Raises `ImproperlyConfigured`, which names the line but never its text: it may be a secret."""
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_text_of(path))):
        name = binding.key
        if not binding.error and name is None:  # an empty line, or a comment
            continue
        if binding.error or name is None or binding.value is None or not A_NAME.fullmatch(name):
            raise ImproperlyConfigured(
                f"{path}, line {binding.original.line}: this is no NAME=value. A value with quotes or # needs single "
                "quotes around it; set and other commands of a shell are not understood."
            )
        found[name] = binding.value  # of a name that comes twice, the last value counts: people add lines at the end
    return found


def _text_of(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise ImproperlyConfigured(f"The file of settings {path} cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ImproperlyConfigured(f"The file of settings {path} is not UTF-8 text: save it in that encoding.")
    return text
