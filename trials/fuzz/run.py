"""Runs schemathesis on a service's published document, and reports its findings."""

import contextlib
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testing.environment import ROOT, clean_environment
from testing.service import Service, provider_settings
from testing.upstream import Upstream

CONFIG = Path(__file__).with_name("schemathesis.toml")
CLIENTS = ("ana", "bruno")  # neither may see the other's data
SCOPES = ("chat", "sessions:read", "sessions:write", "sessions:erase")


@dataclass(frozen=True)
class Pass:
    """One way to test the service: its settings, whether clients with keys call, and options of schemathesis."""

    settings: dict[str, str]
    keys: bool
    options: tuple[str, ...]


PASSES = {
    "keys": Pass(
        {"ACCESS_MODE": "keys"},
        True,
        # A schema can't exclude NUL in unknown keys, so the other pass sends it.
        ("--generation-allow-x00", "false"),
    ),
    "open": Pass(
        {"ACCESS_MODE": "open"},
        False,
        # As above; and callers need no key, and own nothing that others may not see.
        ("--exclude-checks", "positive_data_acceptance,ignored_auth,object_level_authorization"),
    ),
}


@dataclass(frozen=True)
class Found:
    """`problems` is empty if all was well."""

    cases: int
    seconds: float
    problems: str


def try_service(service: Service, how: Pass, seed: int, examples: int, options: Sequence[str] = ()) -> Found:
    """One run against a running service: about 20 times as many cases as `examples`, and some hundred."""
    report = service.directory / "fuzz.json"
    began, said = time.monotonic(), len(service.log())
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(_config(service, how))),
            *("run", f"{service.url}/schema?format=json", "--seed", str(seed), "--max-examples", str(examples)),
            *("--report", "json", "--report-json-path", str(report), *how.options, *options),
        ],
        cwd=service.directory,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    problems = [done.stdout + done.stderr] if done.returncode else []
    problems += complaints(service.log()[said:])
    cases = json.loads(report.read_text())["test_cases"]["generated"] if report.exists() else 0
    return Found(cases, time.monotonic() - began, "\n".join(problems))


def complaints(log: str) -> list[str]:
    """Log lines that no request may cause."""
    return [line for line in log.splitlines() if re.search(r"Traceback|\b(WARNING|ERROR|CRITICAL)\b", line)]


def _config(service: Service, how: Pass) -> Path:
    """The configuration, with clients and keys if the pass needs them."""
    path = service.directory / "schemathesis.toml"
    text = CONFIG.read_text()
    if how.keys:
        clients = service.directory / "clients.json"
        clients.write_text(json.dumps({"auth": [_client(service, name) for name in CLIENTS]}))
        text += f"\n[auth.wfc]\npath = {json.dumps(str(clients))}\npeers = {json.dumps(CLIENTS)}\n"
    path.write_text(text)
    return path


def _client(service: Service, name: str) -> dict[str, object]:
    """A new client with a key, in the form that schemathesis reads."""
    scopes = [part for scope in SCOPES for part in ("--scope", scope)]
    made = service.manage("create_client", f"{name} {secrets.token_hex(4)}", *scopes, "--key")
    assert made.returncode == 0, made.stderr
    return {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {made.stdout.strip()}"}]}


@contextlib.contextmanager
def serving(directory: Path, how: Pass) -> Iterator[Service]:
    """A new service for one pass, with the scripted upstream behind it."""
    with Upstream() as upstream:
        service = Service(directory, settings=provider_settings(upstream.url) | how.settings)
        try:
            yield service.start()
        finally:
            service.close()
