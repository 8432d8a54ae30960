"""All measurements, and their summaries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trials.bench.load import Window, percentile
from trials.bench.scenarios import BASELINE, Plan, Run, median
from trials.bench.sizes import Histories, Tables

Rounds = list[list[Run]]


@dataclass
class Results:
    """All runs by plan, in rounds of one run per contestant; and the harness's own limit without a service."""

    rounds: dict[Plan, Rounds] = field(default_factory=dict)
    direct: dict[Plan, Window] = field(default_factory=dict)
    histories: list[Histories] = field(default_factory=list)
    tables: list[Tables] = field(default_factory=list)

    def named(self, name: str) -> list[tuple[Plan, Rounds]]:
        return [(plan, rounds) for plan, rounds in self.rounds.items() if plan.name == name]

    def runs(self) -> Iterator[tuple[str, Run]]:
        for plan, rounds in self.rounds.items():
            for run in (run for runs in rounds for run in runs):
                yield f"{plan.name}, {plan.clients:,} at once, {run.contestant}", run

    def problems(self) -> list[tuple[str, str]]:
        """The contestant, and the problems of one of its runs."""
        found = [
            (run.contestant, f"{name} ({run.window.turns_per_second:,.0f} turns/s answered meanwhile): {all_of(run)}")
            for name, run in self.runs()
            if run.problems
        ]
        found += [
            (one.contestant, f"history, {one.contestant}: {all_of(one)}") for one in self.histories if one.problems
        ]
        found += [(one.contestant, f"table, {one.contestant}: {all_of(one)}") for one in self.tables if one.problems]
        return found


def all_of(run: Run | Histories | Tables) -> str:
    return "; ".join(run.problems)


def by_contestant(rounds: Rounds) -> list[tuple[str, list[Run]]]:
    """The valid runs by contestant, in their order."""
    names = dict.fromkeys(run.contestant for runs in rounds for run in runs)
    return [
        (name, [run for runs in rounds for run in runs if run.contestant == name and not run.problems])
        for name in names
    ]


def stored(rounds: Rounds) -> list[tuple[str, list[Run]]]:
    """The runs of BancoBot, which stores messages."""
    return [(name, runs) for name, runs in by_contestant(rounds) if name != BASELINE.name]


def turns_per_second(runs: Sequence[Run]) -> float:
    return median([run.window.turns_per_second for run in runs])


def latency(runs: Sequence[Run], share: float) -> float:
    """The median over the runs of a percentile, in seconds."""
    return median([percentile(run.window.latencies, share) for run in runs])


def delay(runs: Sequence[Run], share: float) -> float:
    """The same of the delay added to a piece."""
    return median([percentile(run.window.delays, share) for run in runs])


def memory(runs: Sequence[Run]) -> float:
    return max((run.usage.memory for run in runs), default=0.0)


def ratios(rounds: Rounds, name: str, other: str = BASELINE.name) -> list[float]:
    """Turns per second over another contestant's, usually the baseline's, in the same round."""
    found = []
    for runs in rounds:
        counted = {run.contestant: run.window.turns_per_second for run in runs if not run.problems}
        if name in counted and counted.get(other):
            found.append(counted[name] / counted[other])
    return found
