"""The SECRET_KEY: the operator's in production, and one that a development start makes for itself."""

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

MIN_CHARS = 32
MIN_DIFFERENT_CHARS = 5  # as Django's own check
PLACEHOLDER = re.compile(
    r"django-insecure|change[-_ ]?(?:me|this|it)|your[-_ ]?secret|secret[-_ ]?key|replace[-_ ]?(?:me|this)|placeholder",
    re.IGNORECASE,
)


def check_production(key: str, *, debug: bool) -> None:
    if debug or len(key) < MIN_CHARS or len(set(key)) < MIN_DIFFERENT_CHARS or PLACEHOLDER.search(key):
        raise ImproperlyConfigured(
            f"ENVIRONMENT=production needs a SECRET_KEY of at least {MIN_CHARS} random characters, for instance what "
            "openssl rand -hex 32 prints, and DEBUG must be false."
        )


def private_key(folder: Path) -> str:
    """Made once, readable only by its owner, outside git."""
    path = folder / "secret_key"
    try:
        if not path.exists():
            _make(path)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise ImproperlyConfigured(f"The key of this installation, {path}, cannot be read: {problem}.") from None
    if len(key) < MIN_CHARS:
        raise ImproperlyConfigured(f"{path} holds no key. Where there is no such file, a start makes a new one.")
    return key


def _make(path: Path) -> None:
    """A whole file or none; of several starts at once the first one's counts."""
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=".secret_key-")  # readable only by its owner
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            path.hardlink_to(made)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            Path(made).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(made).unlink()
