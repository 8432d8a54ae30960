"""`python -m trials.torture`: tests the promises with kills and faults, and writes docs/reliability.md. Linux only."""

import argparse
import random
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from testing import measure, postgres
from testing.databases import DATABASES, database, end
from testing.environment import ROOT
from testing.upstream import Upstream
from trials.torture import report
from trials.torture.base import Finding, World
from trials.torture.report import Result
from trials.torture.steps import STEPS

OUTPUT = ROOT / "docs" / "reliability.md"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trials.torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="of all that is random (default: a new one, which the report names)")
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both")
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="STEP", help=f"of {', '.join(STEPS)}")
    parser.add_argument("--server", choices=("gunicorn", "uvicorn"), default="gunicorn", help="what serves")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the promises' figures, for a quick run")
    parser.add_argument("--output", type=Path, help=f"the file to write (default {OUTPUT.relative_to(ROOT)})")
    arguments = parser.parse_args()
    arguments.seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    whole = arguments.scale == 1 and arguments.only is None and arguments.database == "both"
    whole = whole and arguments.server == "gunicorn"
    if arguments.server == "uvicorn":  # which has no workers to exchange
        arguments.only = [name for name in arguments.only or STEPS if name != "rolling"]
    if arguments.output is not None and not whole:
        parser.error("only a whole run is written: without --only, --scale, --database and --server")
    arguments.output = arguments.output or (OUTPUT if whole else None)
    return arguments


def run_step(
    name: str, kind: str, arguments: argparse.Namespace, scratch: Path, server: postgres.Server | None
) -> Result:
    """A step that fails with an exception also breaks its promise."""
    began = time.monotonic()
    chance = random.Random(f"{arguments.seed} {name}")
    with Upstream() as upstream:
        world = World(kind, scratch / f"{kind}-{name}", chance, upstream, arguments.scale, server)
        world.options = ("--server", arguments.server)
        with world.opened():
            try:
                found = list(STEPS[name](world))
            except Exception as problem:
                found = [Finding("?", "broke off", {}, [f"{type(problem).__name__}: {problem}", world.logs()[-3000:]])]
    return Result(name, kind, time.monotonic() - began, found)


def run_all(arguments: argparse.Namespace, scratch: Path) -> list[Result]:
    results = []
    for kind in DATABASES if arguments.database == "both" else (arguments.database,):
        with database(kind) as server:
            for name in arguments.only or STEPS:
                results.append(run_step(name, kind, arguments, scratch, server))
                print(report.lines(results[-1]), flush=True)
    return results


def version() -> str | None:
    """PostgreSQL's."""
    try:
        answer = subprocess.run(
            [postgres.binaries() / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except postgres.Missing:
        return None
    return answer.stdout.partition(") ")[2].strip()


def main() -> int:
    arguments = parse_arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bancobot-torture-") as scratch:
        machine = measure.machine(Path(scratch), version())
        results = run_all(arguments, Path(scratch))
    if arguments.output is not None:
        command = f"python -m trials.torture --seed {arguments.seed}"
        report.write(arguments.output, report.render(results, machine, command))
        print(f"written to {arguments.output}")
    return 1 if any(finding.problems for result in results for finding in result.findings) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)  # so that the processes are stopped then, too
    sys.exit(main())
