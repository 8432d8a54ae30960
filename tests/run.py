"""What `make test` runs: every check, the tests on SQLite, on a PostgreSQL server of its own, and in a browser."""

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pytest

from testing import postgres
from testing.environment import ROOT, clean_environment
from tests.support import browser

HELP = """Without arguments every stage runs, and a table at the end tells how each one ended.
What this program does not know goes to pytest, and only the three pytest stages run then:
  make test ARGS="-k name"
  make test ARGS="--stage sqlite tests/test_health.py -x"
  make test ARGS="--stage lint --stage types"
POSTGRES_BINDIR names the folder of the PostgreSQL binaries where they are not found by themselves."""
PASSED, FAILED, NOT_RUN = "passed", "FAILED", "NOT RUN"
NO_TESTS = "no tests"  # none that the arguments name; another stage may have them


@dataclass
class Run:
    """One run: where its scratch files go, what pytest gets, and how the stages ended (name, result, seconds)."""

    directory: Path
    pytest_arguments: list[str]
    results: list[tuple[str, str, float]]
    hints: list[str] = field(default_factory=list)  # why a stage did not run

    def call(self, *command: str, **settings: str) -> str:
        return PASSED if self.exit_code(*command, **settings) == 0 else FAILED

    def exit_code(self, *command: str, **settings: str) -> int:
        """Runs a program of the virtual environment to its end, whatever happens to this one."""
        defaults = {"SECRET_KEY": secrets.token_urlsafe(50), "DATA_DIR": str(self.directory)}
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=clean_environment(**defaults | settings))
        with _interrupts_forwarded_to(process):
            return process.wait()

    def pytest(self, database_url: str, marked: str = "not browser", dist: str = "worksteal") -> str:
        command = ("-m", "pytest", "--numprocesses=3", f"--dist={dist}", "-m", marked, *self.pytest_arguments)
        code = self.exit_code(*command, DATABASE_URL=database_url)
        if code == pytest.ExitCode.NO_TESTS_COLLECTED and self.pytest_arguments:
            return NO_TESTS
        return PASSED if code == 0 else FAILED

    def cannot(self, what: str, reason: str) -> str:
        self.hints += [f"THE TESTS DID NOT RUN {what}.", reason]
        return NOT_RUN


def lint(run: Run) -> str:
    return run.call("-m", "ruff", "check", ".")


def format_(run: Run) -> str:
    return run.call("-m", "ruff", "format", "--check", ".")


def types(run: Run) -> str:
    return run.call("-m", "mypy")


def migrations(run: Run) -> str:
    return run.call("manage.py", "makemigrations", "--check", "--dry-run")


def deploy(run: Run) -> str:
    command = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    return run.call(*command, ENVIRONMENT="production", ALLOWED_HOSTS="example.org")


def sqlite(run: Run) -> str:
    return run.pytest(f"sqlite:///{run.directory}/bancobot.sqlite3")


def postgresql(run: Run) -> str:
    try:
        with postgres.Server() as server:
            return run.pytest(postgres.create_database(server.url))
    except postgres.Missing as missing:
        return run.cannot("ON POSTGRESQL", str(missing))


def in_browser(run: Run) -> str:
    if not browser.PROGRAM:
        return run.cannot("IN A BROWSER", browser.MISSING)
    return run.pytest(f"sqlite:///{run.directory}/browser.sqlite3", "browser", "loadfile")


STAGES: dict[str, Callable[[Run], str]] = {
    "lint": lint,
    "format": format_,
    "types": types,
    "migrations": migrations,
    "deploy": deploy,
    "sqlite": sqlite,
    "postgresql": postgresql,
    "browser": in_browser,
}
PYTEST_STAGES = ["sqlite", "postgresql", "browser"]


@contextlib.contextmanager
def _interrupts_forwarded_to(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Lets the process clean up after itself. Ctrl-C in a terminal reaches it directly; SIGTERM is passed on."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    except KeyboardInterrupt:
        _end(process)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for order in (process.terminate, process.kill):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return
        order()


def perform(run: Run, names: list[str]) -> None:
    for name in names:
        print(f"\n=== {name} ===", flush=True)
        began = time.monotonic()
        result = "interrupted"
        try:
            result = STAGES[name](run)
        finally:
            run.results.append((name, result, time.monotonic() - began))


def summarize(run: Run) -> None:
    print(f"\n{'stage':<12} {'result':<12} {'seconds':>8}\n{'-' * 34}")
    for name, result, seconds in run.results:
        print(f"{name:<12} {result:<12} {seconds:>8.1f}")
    if run.hints:
        print("\n".join(["", "#" * 80, *(f"##  {line:<74}##" for line in run.hints), "#" * 80]))
    sys.stdout.flush()


def exit_code(run: Run) -> int:
    """What did not run is a failure where nobody reads the summary: with CI=true. So is a name that no test has."""
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    bad = {FAILED, NOT_RUN} if in_ci else {FAILED}
    results = {result for _, result, _ in run.results}
    return int(bool(results & bad) or results == {NO_TESTS})


def main() -> int:
    parser = argparse.ArgumentParser("make test", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="append", choices=STAGES, help="run this one only; may be repeated")
    options, pytest_arguments = parser.parse_known_args()
    names = options.stage or (PYTEST_STAGES if pytest_arguments else list(STAGES))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="bancobot-tests-") as directory:
        run = Run(Path(directory), pytest_arguments, [])
        try:
            perform(run, names)
        except KeyboardInterrupt:
            return 130
        finally:
            summarize(run)
    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
