"""DATABASE_URL as people write it, and what Django needs of it. What can't be meant stops the start with a sentence.

SQLAlchemy's and Heroku's spellings mean the same here. libpq itself reads the address of a PostgreSQL server, so that
all it knows works: several hosts, sockets, options. No message shows a password.
"""

import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from django.core.exceptions import ImproperlyConfigured

from web.redaction import hide

NAME = "DATABASE_URL"
SQLITE, POSTGRESQL = "django.db.backends.sqlite3", "django.db.backends.postgresql"
AN_ADDRESS = re.compile(r"(?P<kind>[a-z0-9]+)(?:\+[a-z0-9_]+)?://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
PARTS = re.compile(r"(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?", re.DOTALL)
OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
ENCODED = "is no address. In a password, / is written %2F, # %23, ? %3F, @ %40 and % %25."
# Otherwise an idle connection to a machine that is gone would be noticed after hours, one in use after 15 minutes.
DEFAULTS = {
    "connect_timeout": "5",
    "tcp_user_timeout": "20000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "fallback_application_name": "bancobot",
}
HINTS = {
    "schema": "Write options=-csearch_path%3Dname.",
    "pgbouncer": "DATABASE_PREPARED_STATEMENTS does that.",
    "prepare_threshold": "DATABASE_PREPARED_STATEMENTS does that.",
    "statement_cache_size": "DATABASE_PREPARED_STATEMENTS does that.",
    "prepared_statement_cache_size": "DATABASE_PREPARED_STATEMENTS does that.",
    "pool_size": "Set DATABASE_POOL_SIZE.",
    "connection_limit": "Set DATABASE_POOL_SIZE.",
}


def database(url: str, base: Path, default: Path) -> dict[str, Any]:
    """Django's settings for the database at `url`, or in the file `default`. A relative path begins at `base`."""
    if not url:
        return _file(default)
    found = AN_ADDRESS.fullmatch(url)
    reader = READERS.get(found["kind"].lower()) if found else None
    if found is None or reader is None:
        what = f" {found['kind']} is not supported." if found else ""
        _refuse(f"must begin with sqlite:///, postgres:// or postgresql://.{what}")
    return reader(found["rest"], base)


def _file(file: Path) -> dict[str, Any]:
    return {"ENGINE": SQLITE, "NAME": str(file)}


def _sqlite(rest: str, base: Path) -> dict[str, Any]:
    """Of a path `#` and spaces are part, `%20` is a space, and `?` would begin options, of which there are none."""
    path, _, options = rest.partition("?")
    try:
        path = unquote(path, errors="strict")
    except UnicodeDecodeError:
        _refuse("has a % sequence that is not UTF-8. Write % itself as %25.")
    if path in ("", "/", "/:memory:", ":memory:") or path.startswith(("/file:", "file:")) or "memory" in options:
        _refuse("must name a file: each connection would have a database in memory of its own.")
    if options:
        _refuse("must have no options after a SQLite file. Where ? is part of its name, write %3F.")
    if not path.startswith("/"):
        _refuse(
            f"must have three slashes before a path from BancoBot's folder, four before one from /: sqlite:///{path}"
        )
    path = path[1:]
    if path.startswith(("//", "\\\\")):
        _refuse("must name a file on a local disk: SQLite can't lock files over a network.")
    if os.name != "nt" and OF_WINDOWS.match(path):
        _refuse("names a path of Windows, and this is another system.")
    if path.endswith("/") or "\0" in path:
        _refuse("must name a file, not a folder.")
    return _file(base / home(NAME, path))


def home(name: str, path: str) -> Path:
    """The path, in which `~` is a person's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ImproperlyConfigured(f"{name}: there is no home folder for {path.partition('/')[0]}.") from None


def _postgresql(rest: str, base: Path) -> dict[str, Any]:
    found = _read_by_libpq(*_parts(rest))
    host, port = found.pop("host", ""), found.pop("port", "")
    if not all(number.isdigit() and 0 < int(number) < 65536 for number in port.split(",") if number):
        _refuse("has a port that is no number from 1 to 65535.")
    if not found.get("dbname") and "service" not in found:
        _refuse("must name a database: postgresql://user:password@host:5432/name")
    if found.pop("replication", None):
        _refuse("must not open a connection for replication.")
    hide(found.get("password", ""), found.get("sslpassword", ""))
    # Of several, the one that can be written to: after a failover that is another one.
    writable = {"target_session_attrs": "read-write"} if "," in host else {}
    return {
        "ENGINE": POSTGRESQL,
        "NAME": found.pop("dbname", ""),
        "USER": found.pop("user", ""),
        "PASSWORD": found.pop("password", ""),
        "HOST": host,
        "PORT": port,
        "OPTIONS": DEFAULTS | writable | found,
    }


def _parts(rest: str) -> tuple[str, str, str]:
    """User and password, hosts and database, and options. Raises where an unquoted mark has cut a password."""
    parts = PARTS.fullmatch(rest)
    if parts is None:
        _refuse(ENCODED)
    login, _, hosts = parts["authority"].rpartition("@")
    path, query = parts["path"] or "", parts["query"] or ""
    if parts["fragment"] or "@" in path + query:
        _refuse(ENCODED)
    return login, f"{hosts}/{_quoted(path[1:])}", query


def _read_by_libpq(login: str, place: str, query: str) -> dict[str, str]:
    from psycopg import ProgrammingError, pq  # who uses SQLite need not load it
    from psycopg.conninfo import conninfo_to_dict

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    options = [option.partition("=") for option in query.split("&") if option]
    for option, _, _ in options:
        _check_option(option, known)
    query = "&".join(f"{_as_libpq_says(name, value)}={_quoted(value)}" for name, _, value in options)
    user, colon, password = (part if part == ":" else _quoted(part) for part in login.partition(":"))
    try:
        found = conninfo_to_dict(f"postgresql://{user}{colon}{password}@{place}?{query}")
    except ProgrammingError:  # its message may quote part of the password
        _refuse(ENCODED)
    return {name: str(value) for name, value in found.items() if value}


def _as_libpq_says(option: str, value: str) -> str:
    return "sslmode" if option == "ssl" and value != "true" else option  # asyncpg's ssl=require


def _check_option(option: str, known: set[str]) -> None:
    if option in known:
        return
    [*near] = get_close_matches(option, known, 1)
    hint = HINTS.get(option) or (f"Is {near[0]} meant?" if near else "")
    shown = option if re.fullmatch(r"[a-z_]{1,40}", option) else "of that name"
    _refuse(f"must have options that PostgreSQL's library knows; there is none {shown}. {hint}".strip())


def _quoted(text: str) -> str:
    """With all marks encoded; a % that encodes nothing is itself."""
    try:
        return quote(unquote(text, errors="strict"), safe="")
    except UnicodeDecodeError:
        _refuse(ENCODED)


def _refuse(what: str) -> NoReturn:
    raise ImproperlyConfigured(f"{NAME} {what}")


READERS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "sqlite": _sqlite,
    "sqlite3": _sqlite,
    "postgres": _postgresql,
    "postgresql": _postgresql,
    "pgsql": _postgresql,
}
