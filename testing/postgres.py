"""A PostgreSQL server for a test run, and databases on it, with the machine's binaries."""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from testing.environment import free_port

OLDEST = 15
USER = "bancobot"
# fsync=off and full_page_writes=off lose data only when the operating system crashes, which also ends the tests.
# Nothing else is relaxed: an acknowledged commit survives `kill -9` of the server, as in production.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "unix_socket_directories": ""}


class Missing(Exception):
    """There are no PostgreSQL binaries, or only old ones. The message says how to get them."""


def binaries() -> Path:
    """The folder of the newest PostgreSQL that is new enough; POSTGRES_BINDIR overrides the choice."""
    if chosen := os.environ.get("POSTGRES_BINDIR"):
        folders = {Path(chosen)}
    else:
        folders = {*Path("/usr/lib/postgresql").glob("*/bin"), *_from_path(), *_from_pg_config()}
    found = max(((_major(folder), folder) for folder in folders), default=(0, Path()))
    if found[0] < OLDEST:
        raise Missing(f"PostgreSQL {OLDEST} or later was not found: apt-get install postgresql")
    return found[1]


def _from_path() -> list[Path]:
    found = shutil.which("postgres")
    return [Path(found).resolve().parent] if found else []


def _from_pg_config() -> list[Path]:
    if not shutil.which("pg_config"):
        return []
    answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
    return [Path(answer.stdout.strip())] if answer.returncode == 0 else []


def _major(folder: Path) -> int:
    """The version of a folder's server; 0 if it has none, or can't make a data directory."""
    if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
        return 0
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"(\d+)", answer.stdout)
    return int(version[1]) if version else 0


def _account() -> dict[str, Any]:
    """Arguments of `subprocess`: as root, another user, because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`.")


class Server:
    """One server on 127.0.0.1, in a directory of its own that goes away with it. `settings` go over SETTINGS."""

    def __init__(self, **settings: str) -> None:
        self.settings = SETTINGS | settings
        self.binaries = binaries()
        self.account = _account()
        self.directory = Path(tempfile.mkdtemp(prefix="bancobot-postgres-"))
        self.password = secrets.token_urlsafe(16)
        self.port = free_port()
        self.process: subprocess.Popen[Any] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> "Server":
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        command = [*self._program("postgres"), "-h", "127.0.0.1", "-p", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *settings],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the runner, which stops the server last
                **self.account,
            )
        self._wait(60)

    def stop(self) -> None:
        if self.process is None:
            return
        for order in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, and the last resort
            self.process.send_signal(order)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
                break
        self.process = None

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _make(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        self._hand_over(self.directory, password_file)
        options = ["--auth=scram-sha-256", "--encoding=UTF8", f"--locale={self._locale()}", "--no-sync"]
        command = [*self._program("initdb"), "-U", USER, "--pwfile", str(password_file)]
        subprocess.run(
            [*command, *options],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            **self.account,
        )

    def _program(self, name: str) -> list[str]:
        return [str(self.binaries / name), "-D", str(self.directory / "data")]

    def _hand_over(self, *paths: Path) -> None:
        for path in paths:
            if self.account:
                os.chown(path, self.account["user"], self.account["group"])

    @staticmethod
    def _locale() -> str:
        """A locale with Portuguese letters, if there is one: under C, "Ã" has no lower case."""
        names = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
        return next((name for name in names if name.lower() in ("c.utf8", "c.utf-8", "en_us.utf-8")), "C")

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + self._log.read_text(errors="replace"))
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=5):
            return True
        return False


def create_database(server_url: str, *, copied: bool = False) -> str:
    """The URL of a new database on the URL's server: empty, or a copy of the URL's database."""
    name = f"bancobot_{secrets.token_hex(6)}"
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if copied:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(_name(server_url)))
        server_url = _elsewhere(server_url)
    _administer(server_url, statement)
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def drop_database(url: str) -> None:
    """Removes the database and ends its connections."""
    _administer(_elsewhere(url), sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))


def _name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _elsewhere(url: str) -> str:
    """Another database of the same server: a database with connections can't be copied or removed."""
    return urlunsplit(urlsplit(url)._replace(path="/postgres"))


def _administer(server_url: str, statement: sql.Composed) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)
