"""Writes the figures as Markdown, between two markers, so that prose around them stays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import CONVERSATION_TURNS, Window
from bench.scenarios import BASELINE, DRAIN_SECONDS, PREFILL_TURNS, UPSTREAM_SECONDS, Plan, Run, median

BEGIN = "<!-- Figures of `make bench`: what stands between the markers is rewritten -->"
END = "<!-- End of the figures -->"
GOAL_RATIO, GOAL_IN_FLIGHT, GOAL_MEGABYTES = 1.5, 0.9, 250
DISTURBED = 0.1
METHOD = f"""\
Everything runs on one machine, on loopback. The service has one worker and a core to itself; the scripted upstream, the
load generator and the PostgreSQL server share the other cores. BancoBot stores every message before it answers (SQLite
in WAL mode with `synchronous=FULL`, or PostgreSQL with `fsync` and `synchronous_commit` on). The baseline is the usual
small chat back end: FastAPI on uvicorn, the sessions in a dict, one shared `httpx.AsyncClient`, plain JSON from the
upstream; it stores nothing. Its client has a time-out of ten minutes, no cap on connections, and httpx's default of 20
idle ones: the settings that suited it best. Both log warnings only. BancoBot reads the same reply as an event stream of
ten pieces.

A client sends a message, waits for the reply, checks its text, and sends the next. It keeps a conversation for
{CONVERSATION_TURNS} turns and then begins another, so the history that goes upstream is 0 to 40 messages long, about 20
on average. Each run starts the service afresh on an empty database. The runs of the contestants alternate; a ratio
compares runs that followed one another. After a run the checker compares what the clients were told, how many calls and
messages the upstream saw, and what the database holds: exactly two completed messages per acknowledged turn. A run in
which anything is amiss is not counted; it is listed as failed.

CPU time is that of all processes and threads of the service. Memory is measured at the end of a run, under
load; BancoBot has two processes (parent and worker), and a page that they share counts once."""


@dataclass
class Results:
    """All runs by scenario, in rounds of one run per contestant; and what the harness can do without a service."""

    rounds: dict[str, tuple[Plan, list[list[Run]]]] = field(default_factory=dict)
    direct: dict[str, Window] = field(default_factory=dict)


def write(path: Path, text: str) -> None:
    """Replaces what stands between the markers; a file without them gets the figures at its end."""
    old = path.read_text() if path.exists() else "# Performance\n"
    before, begin, rest = old.partition(BEGIN)
    after = rest.partition(END)[2] if begin else "\n"
    path.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n{END}{after}")


def render(results: Results, machine: Sequence[tuple[str, str]], command: str, notes: Sequence[str]) -> str:
    parts = [f"Command: `{command}`", table(("machine", ""), machine), "## Method\n\n" + METHOD]
    if goals := goal_rows(results):
        parts.append("## Goals\n\n" + table(("goal", "figure", ""), goals))
    sections = {"throughput": throughput, "in-flight": in_flight, "single": single}
    parts += [section(results) for name, section in sections.items() if name in results.rounds]
    if remarks := [*notes, *failures(results), *disturbances(results)]:
        parts.append("## Remarks\n\n" + "\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def throughput(results: Results) -> str:
    plan, rounds = results.rounds["throughput"]
    head = (
        "service",
        "turns/s: median (range)",
        "CPU ms per turn",
        "p50 ms",
        "p99 ms",
        "MB",
        "times the baseline",
    )
    rows = [
        [name, rate(runs), cpu(runs), ms(runs, 0.5), ms(runs, 0.99), memory(runs), ratios(rounds, name)]
        for name, runs in by_contestant(rounds)
    ]
    direct = results.direct["throughput"].turns_per_second
    note = f"The load generator and the upstream alone, nothing in between: {direct:,.0f} turns/s."
    title = f"## Throughput: {plan.clients} clients, an upstream that answers at once"
    return f"{title}\n\n{table(head, rows)}\n\n{note} {database_note(rounds)}{history_note(rounds)}"


def in_flight(results: Results) -> str:
    plan, rounds = results.rounds["in-flight"]
    head = ("service", "turns/s", "of the ideal", "added p50 ms", "added p99 ms", "CPU ms per turn", "MB")
    rows = []
    for name, runs in by_contestant(rounds):
        share = f"{median([ideal_share(plan, run) for run in runs]):.1%}" if runs else "failed"
        added = [ms(runs, share, UPSTREAM_SECONDS) for share in (0.5, 0.99)]
        rows.append([name, rate(runs), share, *added, cpu(runs), memory(runs)])
    ideal = plan.clients / plan.delay
    title = f"## In flight: {plan.clients:,} turns at once, an upstream that takes {plan.delay:g} s"
    how = (
        f"Ideal: {ideal:g} turns/s. Every session had {PREFILL_TURNS} turns before the measurement, which lasts "
        f"{plan.seconds:g} s; a turn that has no answer {DRAIN_SECONDS:g} s later counts as failed."
    )
    return f"{title}\n\n{table(head, rows)}\n\n{how} {database_note(rounds)}{history_note(rounds)}"


def single(results: Results) -> str:
    _, rounds = results.rounds["single"]
    direct = results.direct["single"]
    rows = [["the upstream alone", f"{direct.percentile(0.5) * 1000:.2f}", f"{direct.percentile(0.99) * 1000:.2f}", ""]]
    for name, runs in by_contestant(rounds):
        added = f"{(middle(runs, 0.5) - direct.percentile(0.5)) * 1000:.2f}" if runs else "failed"
        rows.append([name, ms(runs, 0.5, digits=2), ms(runs, 0.99, digits=2), added])
    title = "## Overhead: one client, an upstream that answers at once"
    return f"{title}\n\n{table(('service', 'p50 ms', 'p99 ms', 'added p50 ms'), rows)}"


def by_contestant(rounds: list[list[Run]]) -> list[tuple[str, list[Run]]]:
    """The runs that count, by contestant, in the order in which they ran."""
    names = dict.fromkeys(run.contestant for runs in rounds for run in runs)
    return [
        (name, [run for runs in rounds for run in runs if run.contestant == name and not run.problems])
        for name in names
    ]


def rate(runs: Sequence[Run]) -> str:
    values = [run.window.turns_per_second for run in runs]
    if len(values) < 2:
        return f"{values[0]:,.0f}" if values else "failed"
    return f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def cpu(runs: Sequence[Run]) -> str:
    return f"{median([run.cpu_ms_per_turn for run in runs]):.2f}" if runs else ""


def memory(runs: Sequence[Run]) -> str:
    return f"{max(run.usage.memory for run in runs):.0f}" if runs else ""


def middle(runs: Sequence[Run], share: float) -> float:
    """The median over the runs of a percentile, in seconds."""
    return median([run.window.percentile(share) for run in runs])


def ms(runs: Sequence[Run], share: float, less: float = 0.0, digits: int = 1) -> str:
    return f"{(middle(runs, share) - less) * 1000:,.{digits}f}" if runs else ""


def ideal_share(plan: Plan, run: Run) -> float:
    return run.window.turns_per_second * plan.delay / plan.clients


def pair_ratios(rounds: list[list[Run]], name: str) -> list[float]:
    """Turns per second over the baseline's in the same round."""
    found = []
    for runs in rounds:
        counted = {run.contestant: run.window.turns_per_second for run in runs if not run.problems}
        if name in counted and counted.get(BASELINE.name):
            found.append(counted[name] / counted[BASELINE.name])
    return found


def ratios(rounds: list[list[Run]], name: str) -> str:
    return "" if name == BASELINE.name else ", ".join(f"{ratio:.2f}" for ratio in pair_ratios(rounds, name))


def goal_rows(results: Results) -> list[list[str]]:
    rows = []
    if "throughput" in results.rounds:
        plan, rounds = results.rounds["throughput"]
        for name, _ in stored(rounds):
            ratio = median(pair_ratios(rounds, name))
            goal = f"{plan.clients} clients: {GOAL_RATIO} times the baseline's turns per second or more"
            rows.append([f"{goal} ({name})", f"{ratio:.2f}", verdict(ratio >= GOAL_RATIO)])
    if "in-flight" in results.rounds:
        plan, rounds = results.rounds["in-flight"]
        for name, runs in stored(rounds):
            share = median([ideal_share(plan, run) for run in runs])
            goal = f"{plan.clients:,} in flight: {GOAL_IN_FLIGHT:.0%} of the ideal rate or more ({name})"
            rows.append([goal, f"{share:.1%}", verdict(share >= GOAL_IN_FLIGHT)])
            peak = max((run.usage.memory for run in runs), default=0.0)
            met = verdict(0 < peak < GOAL_MEGABYTES)
            rows.append([f"{plan.clients:,} in flight: under {GOAL_MEGABYTES} MB ({name})", f"{peak:.0f} MB", met])
    return rows


def stored(rounds: list[list[Run]]) -> list[tuple[str, list[Run]]]:
    return [(name, runs) for name, runs in by_contestant(rounds) if name != BASELINE.name]


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def database_note(rounds: list[list[Run]]) -> str:
    used = [run.database_ms_per_turn for runs in rounds for run in runs if run.usage.database and not run.problems]
    return f"The PostgreSQL server took another {median(used):.2f} ms CPU per turn. " if used else ""


def history_note(rounds: list[list[Run]]) -> str:
    means = [run.window.mean_history for runs in rounds for run in runs if not run.problems]
    return f"History sent with a turn: {min(means):.1f} to {max(means):.1f} messages on average." if means else ""


def failures(results: Results) -> list[str]:
    return [
        f"Failed, not counted: {scenario}, {run.contestant} ({run.window.turns_per_second:,.0f} turns/s answered while "
        f"the clock ran): {'; '.join(run.problems)}"
        for scenario, (_, rounds) in results.rounds.items()
        for runs in rounds
        for run in runs
        if run.problems
    ]


def disturbances(results: Results) -> list[str]:
    return [
        f"Disturbed: {scenario}, {run.contestant}: other processes took {run.disturbance:.0%} of the service's core."
        for scenario, (_, rounds) in results.rounds.items()
        for runs in rounds
        for run in runs
        if run.disturbance > DISTURBED
    ]
