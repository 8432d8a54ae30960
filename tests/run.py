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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testing import postgres, proxies
from testing.environment import ROOT, clean_environment
from testing.llama import server as llama
from tests.support import browser

HELP = """Without arguments all stages but proxy and model run, two at a time; a table at the end tells how each ended.
The stage proxy starts real proxies. The stage model asks a real model on a llama.cpp server, which it installs first.
What this program does not know goes to pytest, and only sqlite, postgresql and browser run then:
  make test ARGS="-k name"
  make test ARGS="--stage sqlite tests/web/test_logs.py -x"
  make test ARGS="--stage lint --stage types"
POSTGRES_BINDIR names the folder of the PostgreSQL binaries where they are not found by themselves."""
PASSED, FAILED, NOT_RUN, INTERRUPTED = "passed", "FAILED", "NOT RUN", "interrupted"
NO_TESTS = "no tests"  # none that the arguments name; another stage may have them
NO_STAGE_OF_THEIR_OWN = "not browser and not proxy and not model"
AT_ONCE = 2  # stages: one alone leaves processors idle while its tests wait
PATIENCE = 20  # seconds for a program to clean up after an interrupt


@dataclass
class Stage:
    """One stage of a run: what it has started, where that prints to, and how it ended."""

    name: str
    directory: Path  # for scratch files
    pytest_arguments: list[str]
    output: Path | None  # the terminal where there is none
    result: str = INTERRUPTED
    seconds: float = 0.0
    hints: list[str] = field(default_factory=list)  # why it did not run
    process: "subprocess.Popen[bytes] | None" = None
    stopping: bool = False

    def perform(self) -> "Stage":
        began = time.monotonic()
        try:
            result = STAGES[self.name](self)
        finally:
            self.seconds = time.monotonic() - began
        self.result = INTERRUPTED if self.stopping else result
        return self

    def call(self, *command: str, **settings: str) -> str:
        return PASSED if self.exit_code(*command, **settings) == 0 else FAILED

    def exit_code(self, *command: str, **settings: str) -> int:
        """Runs a program of the virtual environment to its end. Ctrl-C reaches it by `stop` alone."""
        defaults = {"SECRET_KEY": secrets.token_urlsafe(50), "DATA_DIR": str(self.directory)}
        environment = clean_environment(**defaults | settings)
        with self.output.open("ab") if self.output else contextlib.nullcontext() as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        if self.stopping:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait()

    def stop(self) -> None:
        """Lets the program clean up after itself."""
        self.stopping = True
        if self.process:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        if self.process is None:
            return
        for order in (self.process.terminate, self.process.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
                return
            order()

    def pytest(self, database_url: str, marked: str, *options: str) -> str:
        command = ("-m", "pytest", "--numprocesses=2", "--dist=worksteal", "-m", marked, *options)
        code = self.exit_code(*command, *self.pytest_arguments, DATABASE_URL=database_url)
        if code == pytest.ExitCode.NO_TESTS_COLLECTED and self.pytest_arguments:
            return NO_TESTS
        return PASSED if code == 0 else FAILED

    def folder(self, name: str) -> str:
        """The tests of a folder, which are marked with its name."""
        named = any(Path(argument.partition("::")[0]).exists() for argument in self.pytest_arguments)
        paths = [] if named else [f"tests/{name}"]  # so that pytest reads no other test
        return self.pytest(f"sqlite:///{self.directory}/{name}.sqlite3", name, "--dist=loadfile", *paths)

    def cannot(self, what: str, reason: str) -> str:
        self.hints += [f"THE TESTS DID NOT RUN {what}.", reason]
        return NOT_RUN


def lint(stage: Stage) -> str:
    return stage.call("-m", "ruff", "check", ".")


def format_(stage: Stage) -> str:
    return stage.call("-m", "ruff", "format", "--check", ".")


def types(stage: Stage) -> str:
    return stage.call("-m", "mypy")


def migrations(stage: Stage) -> str:
    return stage.call("manage.py", "makemigrations", "--check", "--dry-run")


def deploy(stage: Stage) -> str:
    command = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    return stage.call(*command, ENVIRONMENT="production", ALLOWED_HOSTS="example.org")


def sqlite(stage: Stage) -> str:
    return stage.pytest(f"sqlite:///{stage.directory}/bancobot.sqlite3", NO_STAGE_OF_THEIR_OWN)


def postgresql(stage: Stage) -> str:
    try:
        with postgres.Server() as server:
            return stage.pytest(postgres.create_database(server.url), f"database and {NO_STAGE_OF_THEIR_OWN}")
    except postgres.Missing as missing:
        return stage.cannot("ON POSTGRESQL", str(missing))


def in_browser(stage: Stage) -> str:
    if not browser.PROGRAM:
        return stage.cannot("IN A BROWSER", browser.MISSING)
    return stage.folder("browser")


def proxy(stage: Stage) -> str:
    if not proxies.NGINX:
        return stage.cannot("BEHIND A PROXY", proxies.MISSING)
    return stage.folder("proxy")


def model(stage: Stage) -> str:
    try:
        llama.install()
    except llama.Missing as missing:
        return stage.cannot("WITH A REAL MODEL", str(missing))
    return stage.folder("model")


# In the order in which they begin: the longest first, the checks beside it.
STAGES: dict[str, Callable[[Stage], str]] = {
    "sqlite": sqlite,
    "lint": lint,
    "format": format_,
    "types": types,
    "migrations": migrations,
    "deploy": deploy,
    "postgresql": postgresql,
    "browser": in_browser,
    "proxy": proxy,
    "model": model,
}
OPTIONAL = ("proxy", "model")  # for what they need
PYTEST_STAGES = ["sqlite", "postgresql", "browser"]


def perform(stages: list[Stage]) -> None:
    """Runs them; prints what each has said when it ends. Stops and awaits them all before an interrupt goes on."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(stage.perform) for stage in stages]
        try:
            for ended in as_completed(running):
                show(ended.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for stage in stages:
                stage.stop()
            for stage in stages:
                stage.end()
            raise


def show(stage: Stage) -> None:
    if stage.output is None:  # it has printed already
        return
    print(f"\n=== {stage.name}: {stage.result} after {stage.seconds:.1f} s ===", flush=True)
    if stage.output.exists():
        sys.stdout.buffer.write(stage.output.read_bytes())
        sys.stdout.flush()


def summarize(stages: list[Stage], seconds: float) -> None:
    print(f"\n{'stage':<12} {'result':<12} {'seconds':>8}\n{'-' * 34}")
    for stage in stages:
        print(f"{stage.name:<12} {stage.result:<12} {stage.seconds:>8.1f}")
    print(f"{'whole':<25} {seconds:>8.1f}")
    hints = [hint for stage in stages for hint in stage.hints]
    if hints:
        print("\n".join(["", "#" * 80, *(f"##  {line:<74}##" for line in hints), "#" * 80]))
    sys.stdout.flush()


def exit_code(stages: list[Stage]) -> int:
    """What did not run is a failure where nobody reads the summary: with CI=true. So is a name that no test has."""
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    bad = {FAILED, NOT_RUN} if in_ci else {FAILED}
    results = {stage.result for stage in stages}
    return int(bool(results & bad) or results == {NO_TESTS})


def main() -> int:
    parser = argparse.ArgumentParser("make test", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="append", choices=STAGES, help="run this one only; may be repeated")
    options, pytest_arguments = parser.parse_known_args()
    names = options.stage or (PYTEST_STAGES if pytest_arguments else [name for name in STAGES if name not in OPTIONAL])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bancobot-tests-") as scratch:
        directory = Path(scratch)
        outputs = [None] if len(names) == 1 else [directory / f"{name}.log" for name in names]
        stages = [Stage(name, directory, pytest_arguments, log) for name, log in zip(names, outputs, strict=True)]
        try:
            perform(stages)
        except KeyboardInterrupt:
            return 130
        finally:
            summarize(stages, time.monotonic() - began)
    return exit_code(stages)


if __name__ == "__main__":
    sys.exit(main())
