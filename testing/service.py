"""The real service, started as an operator would: `manage.py serve` in separate processes."""

import contextlib
import functools
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from testing import forked, postgres
from testing.environment import ROOT, clean_environment, free_port

START_SECONDS = 60
STOP_SECONDS = 45


def provider_settings(upstream_url: str) -> dict[str, str]:
    """The scripted upstream instead of OpenRouter."""
    return {
        "LLM_PROVIDER": "openrouter",
        "OPENROUTER_BASE_URL": upstream_url,
        "OPENROUTER_API_KEY": "test-key",
        "OPENROUTER_DEFAULT_MODEL": "test/model",
    }


def new_database(directory: Path) -> str:
    """A database of the kind under test: a new one on the PostgreSQL server of DATABASE_URL, or a SQLite file."""
    server = os.environ.get("DATABASE_URL", "")
    if server.startswith("postgres"):
        return postgres.create_database(server)
    return f"sqlite:///{directory}/bancobot.sqlite3"


def manage(settings: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=clean_environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


class Template:
    """A migrated database, made at its first use, and copies of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @functools.cached_property
    def url(self) -> str:
        url = new_database(self.directory)
        settings = {"DATABASE_URL": url, "DATA_DIR": str(self.directory), "SECRET_KEY": secrets.token_urlsafe(50)}
        migrated = manage(settings, "migrate", "--verbosity=0")
        assert migrated.returncode == 0, migrated.stderr
        return url

    def copy(self, directory: Path) -> str:
        if self.url.startswith("postgres"):
            return postgres.create_database(self.url, copied=True)
        return f"sqlite:///{shutil.copy(self.url.removeprefix('sqlite:///'), directory)}"

    def close(self) -> None:
        if "url" in self.__dict__ and self.url.startswith("postgres"):
            postgres.drop_database(self.url)


@functools.cache
def template(directory: Path) -> Template:
    """The one of a process of the test run, whose own `directory` this is."""
    (directory / "template").mkdir()
    return Template(directory / "template")


class Service:
    """One installation: a database, a port and the processes that serve it, until `close()`.

    The database is of the kind under test: a new one on the PostgreSQL server of DATABASE_URL, or a SQLite file in
    `directory`. It is empty, or a copy of `template`, which spares the service its migrations. `settings` are
    environment variables; change them between `terminate()` and `start()` at will. `options` are more of `serve`'s.
    With `forks` the libraries are in memory before `manage.py` begins, which halves what a start costs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        options: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        template: Template | None = None,
        forks: bool = False,
    ) -> None:
        self.directory = directory
        self.forks = forks
        self.workers = workers
        self.options = options
        self.port = free_port()
        self.database_url = template.copy(directory) if template else new_database(directory)
        self.settings = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DATA_DIR": str(directory),
            "DATABASE_URL": self.database_url,
            **(settings or {}),
        }
        self.process: subprocess.Popen[bytes] | forked.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> "Service":
        """Returns when /health answers 200; a process that dies before that fails with its log."""
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        arguments = ["serve", *address, "--workers", str(self.workers), *self.options]
        environment = clean_environment(**self.settings)
        if self.forks:
            self.process = forked.Process(arguments, environment, self._log_file, self._log_file)
        else:
            self.process = self._execute(arguments, environment)
        self._wait_for_health()
        return self

    def terminate(self) -> int:
        """SIGTERM to the first process, as `systemctl stop` or Docker would; returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Still running {STOP_SECONDS} s after SIGTERM.\n{self.log()[-6000:]}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to every process of the service at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def restart(self) -> "Service":
        """On the same database and port; whether it ends by SIGTERM or by kill() before is the caller's choice."""
        if self.running:
            self.terminate()
        return self.start()

    def close(self) -> None:
        self.kill()
        if self._on_postgres:
            postgres.drop_database(self.database_url)

    def log(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a management command with the service's settings; the caller checks its exit code and output."""
        if self.forks:
            return forked.run(list(arguments), clean_environment(**self.settings))
        return manage(self.settings, *arguments)

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Runs one statement on the service's database, with %s for the values; returns the rows and commits."""
        if self._on_postgres:
            with psycopg.connect(self.database_url) as server:
                cursor = server.execute(query.encode(), values or None)
                return cursor.fetchall() if cursor.description else []
        with contextlib.closing(sqlite3.connect(self.database_file, timeout=20)) as file, file:
            return file.execute(query.replace("%s", "?"), values).fetchall()

    @property
    def database_file(self) -> Path:
        """The SQLite file; there is none on PostgreSQL."""
        assert not self._on_postgres
        return Path(self.database_url.removeprefix("sqlite:///"))

    def _execute(self, arguments: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a separate process group, for kill()
            )

    @property
    def _on_postgres(self) -> bool:
        return self.database_url.startswith("postgres")

    @property
    def _log_file(self) -> Path:
        return self.directory / "service.log"

    def _wait_for_health(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._healthy():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"The service did not start.\n{self.log()[-6000:]}")
            time.sleep(0.05)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
