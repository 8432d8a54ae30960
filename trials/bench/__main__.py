"""`python -m trials.bench`: measures BancoBot next to a FastAPI baseline and writes docs/performance.md. Linux only."""

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import shlex
import signal
import sys
import time
from pathlib import Path

from testing import measure, postgres
from testing.environment import ROOT
from trials.bench import databases, sizes
from trials.bench.document import report
from trials.bench.results import Results
from trials.bench.scenarios import (
    BASELINE,
    PREFILL_MESSAGES,
    STREAM_SECONDS,
    UPSTREAM_SECONDS,
    Bench,
    Contestant,
    Plan,
    Run,
    open_bench,
)

OUTPUT = ROOT / "docs" / "performance.md"
STARTED = time.monotonic()
NO_REACH = "1000000000"
ACCESS: dict[str, tuple[str, ...] | None] = {
    "": None,
    ", with a key": (),
    ", with a key and all limits": (
        *("--requests-per-minute", NO_REACH, "--turns-in-flight", NO_REACH),
        *("--tokens-per-day", NO_REACH, "--cost-per-month", NO_REACH),
    ),
}
SCENARIOS = ("throughput", "single", "in-flight", "streams", "history", "table", "access", "profile")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trials.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything, printed, not written")
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario, printed, not written")
    parser.add_argument("--seconds", type=float, help="how long a throughput run is measured (default 6)")
    parser.add_argument("--pairs", type=int, help="rounds of the throughput scenario (default 3)")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--output", type=Path, help=f"the file to write (default {OUTPUT.relative_to(ROOT)})")
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or (2.0 if arguments.quick else 6.0)
    arguments.pairs = arguments.pairs or (1 if arguments.quick else 3)
    if arguments.output is None and not arguments.quick and arguments.only is None:
        arguments.output = OUTPUT
    return arguments


def plans(arguments: argparse.Namespace) -> list[tuple[Plan, int]]:
    """The load's clients, and the number of rounds."""
    rounds = 1 if arguments.quick else 2
    short, long = (3.0, 6.0) if arguments.quick else (8.0, 10.0)
    every = [
        (Plan("throughput", 32, arguments.seconds), arguments.pairs),
        (Plan("single", 1, min(4.0, arguments.seconds)), rounds),
        (Plan("in-flight", 1000, long, UPSTREAM_SECONDS, PREFILL_MESSAGES), rounds),
        (Plan("in-flight", 2000, long, UPSTREAM_SECONDS, PREFILL_MESSAGES), rounds),
        (Plan("streams", 200, short, STREAM_SECONDS, streamed=True), rounds),
        (Plan("streams", 1000, short, STREAM_SECONDS, streamed=True), rounds),
        (Plan("access", 32, arguments.seconds), arguments.pairs),
        (Plan("profile", 32, short, profiled=True), 1),
    ]
    return [(plan, rounds) for plan, rounds in every if arguments.only in (None, plan.name)]


def contestants(
    wanted: str, scratch: Path, stack: contextlib.ExitStack
) -> tuple[list[Contestant], str | None, list[str]]:
    """The contestants, PostgreSQL's version, and remarks for the report."""
    found = [BASELINE]
    if wanted in ("sqlite", "both"):
        found.append(Contestant("BancoBot on SQLite", functools.partial(databases.sqlite, scratch)))
    if wanted == "sqlite":
        return found, None, []
    try:
        server = stack.enter_context(databases.postgres_server())
    except postgres.Missing as missing:
        return found, None, [f"Not measured on PostgreSQL: {missing}"]
    found.append(Contestant("BancoBot on PostgreSQL", functools.partial(databases.postgresql, server)))
    return found, databases.postgres_version(server), []


def guarded(entrants: list[Contestant]) -> list[Contestant]:
    """BancoBot without keys, with keys, and with limits that are never reached."""
    return [
        dataclasses.replace(one, name=f"{one.name}{kind}", access=access)
        for one in entrants
        if one.database is not None
        for kind, access in ACCESS.items()
    ]


def say(*text: str) -> None:
    """A line, with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:5.0f} s ", *text, flush=True)


def run_round(bench: Bench, plan: Plan, entrants: list[Contestant]) -> list[Run]:
    runs = []
    for contestant in entrants:
        if not (plan.profiled and contestant == BASELINE):
            runs.append(bench.run(plan, contestant))
            say(f"{plan.name:10} {plan.clients:5} {summary(runs[-1])}")
    return runs


def summary(run: Run) -> str:
    state = "; ".join(run.problems) or f"{run.cpu_ms_per_turn:.2f} ms CPU per turn, {run.usage.memory:.0f} MB"
    disturbed = f" (others took {run.disturbance:.0%} of its core)" if run.disturbance > report.DISTURBED else ""
    return f"{run.contestant:49} {run.window.turns_per_second:8,.0f} turns/s  {state}{disturbed}"


def run_all(bench: Bench, arguments: argparse.Namespace, entrants: list[Contestant]) -> Results:
    results = Results()
    for plan, rounds in plans(arguments):
        if plan.streamed or plan.name in ("throughput", "single"):
            direct = dataclasses.replace(plan, seconds=2.0 + 2 * plan.delay)
            results.direct[plan] = asyncio.run(bench.direct(direct))
        taking_part = guarded(entrants) if plan.name == "access" else entrants
        results.rounds[plan] = [run_round(bench, plan, taking_part) for _ in range(rounds)]
    seconds = 4.0 if arguments.quick else 20.0
    if arguments.only in (None, "history"):
        results.histories = measure_histories(bench, entrants, seconds / 2)
    if arguments.only in (None, "table"):
        for contestant in entrants:
            if contestant != BASELINE:
                results.tables.append(sizes.tables(bench, contestant, seconds))
                say(f"table            {contestant.name}", *results.tables[-1].problems)
    return results


def measure_histories(bench: Bench, entrants: list[Contestant], seconds: float) -> list[sizes.Histories]:
    found = []
    for contestant in entrants:
        for window in (None,) if contestant == BASELINE else (sizes.DEFAULT_WINDOW, sizes.EQUAL_WINDOW):
            one = sizes.histories(bench, contestant, window, seconds)
            say(f"history          {contestant.name:23} {one.growth:8.2f} times", *one.problems)
            found.append(one)
    return found


def main() -> int:
    arguments = parse_arguments()
    with open_bench() as bench, contextlib.ExitStack() as stack:
        entrants, version, notes = contestants(arguments.database, bench.scratch, stack)
        machine = measure.machine(bench.scratch, version)
        results = run_all(bench, arguments, entrants)
    text = report.render(results, machine, shlex.join(["python", "-m", "trials.bench", *sys.argv[1:]]), notes)
    if arguments.output is None:
        print(text)
    else:
        report.write(arguments.output, text, results)
        print(f"written to {arguments.output}")
    # What fails on BancoBot fails the command; a baseline that collapses does not.
    return 1 if any(contestant != BASELINE.name for contestant, _ in results.problems()) else 0


def end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)  # so that the processes are stopped then, too
    sys.exit(main())
