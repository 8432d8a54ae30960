"""`python -m trials.bench.pairs --against CHECKOUT`: the CPU time of a turn here and in another checkout. Linux only.

Both services are up at once, on databases of their own, and are loaded in turn: old, new, new, old, … Other work on the
machine then slows both down alike, and the ratio of a round says more than either of its figures.
"""

import argparse
import asyncio
import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from testing.environment import ROOT, free_port
from trials.bench import databases, services
from trials.bench.databases import Database
from trials.bench.fill import Filling
from trials.bench.scenarios import Bench, Contestant, Plan, Run, Served, open_bench

NAMES = "old", "new"
CONFIDENCE = 0.95
NOTHING_BEFORE = Filling("pairs", 0, 0)
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}

Opener = Callable[[], AbstractContextManager[Database]]


@dataclass(frozen=True)
class Interval:
    """Within which the median of a population lies, with at least this probability."""

    low: float
    high: float
    confidence: float


def interval(values: Sequence[float], wanted: float = CONFIDENCE) -> Interval:
    """By order statistics, which ask nothing of the distribution. Few values reach less than is wanted."""
    ascending, count = sorted(values), len(values)

    def confidence(cut: int) -> float:
        """Of the interval without the `cut` lowest and highest values."""
        return 1 - sum(math.comb(count, below) for below in range(cut + 1)) / 2.0 ** (count - 1)

    cut = max((cut for cut in range((count + 1) // 2) if confidence(cut) >= wanted), default=0)
    return Interval(ascending[cut], ascending[-1 - cut], confidence(cut))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trials.bench.pairs", description=__doc__)
    parser.add_argument(
        "--against", type=Path, required=True, help="the other checkout, with a .venv of its own or none"
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each service is measured in a round")
    return parser.parse_args()


def python_of(checkout: Path) -> str:
    own = checkout / ".venv/bin/python"
    return str(own) if own.exists() else sys.executable


@contextlib.contextmanager
def serving(bench: Bench, checkout: Path, opened: Opener) -> Iterator[Served]:
    """The checkout's service on a new database; `serve` makes the tables."""
    with opened() as database:
        port = free_port()
        command = [python_of(checkout), *services.bancobot_command(port)[1:]]
        env = services.bancobot_settings(bench.upstream_port, database.url)
        log, ready = bench.scratch / f"service-{port}.log", f"http://127.0.0.1:{port}/health"
        with services.running(command, env, bench.cores.service, ready, log, checkout) as process:
            yield Served(port, process.pid, database, log)


def run_rounds(bench: Bench, plan: Plan, rounds: int, pair: Sequence[Served]) -> list[list[Run]]:
    """The runs of each round, the old service's first."""
    found = []
    for number in range(1, rounds + 1):
        runs: dict[int, Run] = {}
        for side in (0, 1) if number % 2 else (1, 0):
            runs[side] = asyncio.run(bench.measure(plan, Contestant(NAMES[side]), pair[side], NOTHING_BEFORE))
        found.append([runs[0], runs[1]])
        figures = (f"{r.contestant} {r.window.turns_per_second:5.0f}/s {r.cpu_ms_per_turn:.3f} ms" for r in found[-1])
        print(f"  round {number}: {'   '.join(figures)}   ratio {ratio(found[-1]):.3f}", flush=True)
    return found


def ratio(runs: Sequence[Run]) -> float:
    return runs[1].cpu_ms_per_turn / runs[0].cpu_ms_per_turn


def compare(bench: Bench, options: argparse.Namespace, opened: Opener) -> bool:
    """Print the rounds and what comes of them; answers whether the new service takes no more, and nothing failed."""
    plan = Plan("pairs", options.clients, options.seconds)
    with contextlib.ExitStack() as stack:
        pair = [stack.enter_context(serving(bench, path, opened)) for path in (options.against.resolve(), ROOT)]
        rounds = run_rounds(bench, plan, options.rounds, pair)
    problems = [problem for runs in rounds for run in runs for problem in run.problems]
    for side, served in enumerate(pair):
        problems += served.problems()
        cpu = statistics.median(runs[side].cpu_ms_per_turn for runs in rounds)
        print(f"  {NAMES[side]}: median {cpu:.3f} ms CPU per turn")
    found = interval([ratio(runs) for runs in rounds])
    middle = statistics.median(map(ratio, rounds))
    within = f"{found.confidence:.1%} interval {found.low:.3f} to {found.high:.3f}"
    print(f"  CPU per turn, new / old: median {middle:.3f}, {within}", *problems, sep="\n  ", flush=True)
    return not problems and found.low <= 1


def main() -> int:
    options = parse_arguments()
    wanted = DATABASES if options.database == "both" else {options.database: DATABASES[options.database]}
    good = []
    with open_bench() as bench, contextlib.ExitStack() as stack:
        openers: dict[str, Opener] = {"sqlite": partial(databases.sqlite, bench.scratch)}
        if "postgres" in wanted:
            openers["postgres"] = partial(databases.postgresql, stack.enter_context(databases.postgres_server()))
        for kind, name in wanted.items():
            print(f"{name}, {options.clients} clients, {options.seconds:g} s a round", flush=True)
            good.append(compare(bench, options, openers[kind]))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
