"""The processes of a run: starting each on its core, and stopping it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testing.environment import ROOT
from trials.bench.upstream import MODEL

START_SECONDS = 60.0
STOP_SECONDS = 15.0


class ServiceFailed(Exception):
    """A process that did not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class Cores:
    """The service has its own core; the upstream, the load generator and the database server share the others."""

    service: frozenset[int]
    others: frozenset[int]

    @classmethod
    def divide(cls) -> "Cores":
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            raise SystemExit("The benchmark needs two cores: one for the service, one for what drives it.")
        return cls(frozenset(available[:1]), frozenset(available[1:]))


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's settings or proxies reaches a process under test."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def provider_settings(upstream_port: int) -> dict[str, str]:
    """The settings of the upstream for both contestants."""
    return {
        "LLM_PROVIDER": "openrouter",
        "OPENROUTER_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        "OPENROUTER_API_KEY": "bench",
        "OPENROUTER_DEFAULT_MODEL": MODEL,
        "LOG_LEVEL": "WARNING",
        "LOG_FORMAT": "console",
    }


def baseline_command(port: int) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "trials.bench.baseline:app", *options]


def bancobot_command(port: int, sampled_to: Path | None = None) -> list[str]:
    sampler = ["-m", "trials.bench.sampler", str(sampled_to)] if sampled_to else []
    serve = ["manage.py", "serve", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, *sampler, *serve]


def bancobot_settings(upstream_port: int, database_url: str) -> dict[str, str]:
    own = {"DATABASE_URL": database_url, "ENV_FILE": "/dev/null", "SECRET_KEY": "only-for-the-benchmark-" + "x" * 40}
    return {**provider_settings(upstream_port), **own}


def migrate(env: Mapping[str, str]) -> None:
    """Makes BancoBot's tables."""
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=environment(env), stdin=subprocess.DEVNULL, check=True, timeout=START_SECONDS)


def create_client(env: Mapping[str, str], options: Sequence[str]) -> str:
    """The key of a client with these options of `manage.py create_client`."""
    command = [sys.executable, "manage.py", "create_client", "bench", *options, "--key"]
    made = subprocess.run(
        command, cwd=ROOT, env=environment(env), capture_output=True, text=True, check=True, timeout=START_SECONDS
    )
    return made.stdout.strip()


@contextlib.contextmanager
def running(
    command: list[str], env: Mapping[str, str], cores: frozenset[int], ready_url: str, log: Path, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once `ready_url` answers 200; it and its children always end afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    try:
        _wait_until_ready(process, ready_url, log)
        yield process
    finally:
        stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, urllib.error.URLError), _direct().open(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise ServiceFailed(f"No 200 from {url}; the log ends:\n{log.read_text(errors='replace')[-2000:]}")


def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, then kills the rest of its process session."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
