"""What `make test` runs: every check, the tests on SQLite, and the tests on a PostgreSQL server of its own."""

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
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests import postgres
from tests.environment import ROOT, clean_environment

HELP = """Without arguments every stage runs, and a table at the end tells how each one ended.
What this program does not know goes to pytest, and only the two pytest stages run then:
  make test ARGS="-k name"
  make test ARGS="--stage sqlite tests/test_health.py -x"
  make test ARGS="--stage lint --stage types"
POSTGRES_BINDIR names the folder of the PostgreSQL binaries where they are not found by themselves."""
PASSED, FAILED, NOT_RUN = "passed", "FAILED", "NOT RUN"


@dataclass
class Run:
    """One run: where its scratch files go, what pytest gets, and how the stages ended (name, result, seconds)."""

    directory: Path
    pytest_arguments: list[str]
    results: list[tuple[str, str, float]]
    hint: str = ""

    def call(self, *command: str, **settings: str) -> str:
        """Runs a program of the virtual environment to its end, whatever happens to this one."""
        defaults = {"SECRET_KEY": secrets.token_urlsafe(50), "DATA_DIR": str(self.directory)}
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=clean_environment(**defaults | settings))
        with _interrupts_forwarded_to(process):
            return PASSED if process.wait() == 0 else FAILED

    def pytest(self, database_url: str) -> str:
        return self.call("-m", "pytest", "--numprocesses=2", *self.pytest_arguments, DATABASE_URL=database_url)


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
        run.hint = str(missing)
        return NOT_RUN


STAGES: dict[str, Callable[[Run], str]] = {
    "lint": lint,
    "format": format_,
    "types": types,
    "migrations": migrations,
    "deploy": deploy,
    "sqlite": sqlite,
    "postgresql": postgresql,
}
PYTEST_STAGES = ["sqlite", "postgresql"]


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
    if run.hint:
        lines = ["THE TESTS DID NOT RUN ON POSTGRESQL.", run.hint]
        print("\n".join(["", "#" * 80, *(f"##  {line:<74}##" for line in lines), "#" * 80]))
    sys.stdout.flush()


def exit_code(run: Run) -> int:
    """What did not run is a failure where nobody reads the summary: with CI=true."""
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    bad = {FAILED, NOT_RUN} if in_ci else {FAILED}
    return int(any(result in bad for _, result, _ in run.results))


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
