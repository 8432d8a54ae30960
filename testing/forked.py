"""`manage.py` in processes that begin with the libraries in memory: each saves half a second of processor time.

They are forked from a server that has imported them. What is BancoBot's own they run from the first line on.
"""

import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from testing.environment import ROOT

# What takes long to import and asks for no settings.
LIBRARIES = [
    "aiohttp", "asyncio", "corsheaders.middleware", "django.contrib.admin.views.main", "django.contrib.auth.hashers",
    "django.contrib.postgres.fields", "django.core.handlers.asgi", "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base", "django.db.backends.sqlite3.base", "django.template.engine",
    "dotenv.parser", "gunicorn.app.base", "gunicorn.workers.gasgi", "inflection", "jsonschema", "psycopg_pool",
    "pygments.formatters.html", "pygments.lexers", "requests", "uritemplate", "uvicorn.lifespan.on",
    "uvicorn.protocols.http.h11_impl", "yaml",
]  # fmt: skip

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(LIBRARIES)


class Process:
    """`manage.py` with these arguments and this environment, in a process group of its own; as `subprocess.Popen`."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], out: Path, error: Path) -> None:
        self._process = _server.Process(target=_manage, args=(arguments, dict(environment), str(out), str(error)))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("manage.py", timeout or 0)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()


def run(arguments: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs `manage.py` to its end and captures what it prints."""
    with tempfile.TemporaryDirectory() as directory:
        out, error = Path(directory, "out"), Path(directory, "error")
        code = Process(arguments, environment, out, error).wait()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), error.read_text())


def _manage(arguments: list[str], environment: Mapping[str, str], out: str, error: str) -> None:
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in ((sys.stdout, out), (sys.stderr, error)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, stream.fileno())
        os.close(file)
        cast(io.TextIOWrapper, stream).reconfigure(line_buffering=True)
    sys.argv = ["manage.py", *arguments]
    runpy.run_path("manage.py", run_name="__main__")
