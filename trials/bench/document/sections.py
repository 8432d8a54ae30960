"""The parts of the report: a table, its remarks and its picture for each scenario."""

from collections.abc import Sequence

from trials.bench.drip import PAUSE, PIECES
from trials.bench.load import percentile
from trials.bench.results import (
    Results,
    Rounds,
    by_contestant,
    delay,
    latency,
    memory,
    ratios,
    stored,
    turns_per_second,
)
from trials.bench.sampler import Profile
from trials.bench.scenarios import BASELINE, DRAIN_SECONDS, PREFILL_MESSAGES, UPSTREAM_SECONDS, Plan, Run, median
from trials.bench.sizes import BLOCKS, CLIENTS, DEFAULT_WINDOW, EQUAL_WINDOW, LENGTHS, OPERATIONS, TABLES, Histories

SMALL_SHARE = 0.01


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def picture(name: str, what: str) -> str:
    return f"![{what}](performance/{name})"


def throughput(results: Results) -> list[str]:
    parts = []
    for plan, rounds in results.named("throughput"):
        head = ("service", "turns/s: median (range)", "CPU ms per turn", "p50 ms", "p99 ms", "MB", "times the baseline")
        rows = [
            [name, rate(runs), cpu(runs), ms(runs, 0.5), ms(runs, 0.99), megabytes(runs), times(rounds, name)]
            for name, runs in by_contestant(rounds)
        ]
        direct = results.direct[plan].turns_per_second
        note = f"The load generator and the upstream alone, nothing in between: {direct:,.0f} turns/s."
        title = f"## Throughput: {plan.clients} clients, an upstream that answers at once"
        parts.append(f"{title}\n\n{table(head, rows)}\n\n{note} {database_note(rounds)}{history_note(rounds)}")
    return parts


def single(results: Results) -> list[str]:
    parts = []
    for plan, rounds in results.named("single"):
        alone = results.direct[plan].latencies
        rows = [["the upstream alone", *(f"{percentile(alone, share) * 1000:.2f}" for share in (0.5, 0.99)), ""]]
        for name, runs in by_contestant(rounds):
            added = f"{(latency(runs, 0.5) - percentile(alone, 0.5)) * 1000:.2f}" if runs else "failed"
            rows.append([name, ms(runs, 0.5, digits=2), ms(runs, 0.99, digits=2), added])
        title = "## Overhead: one client, an upstream that answers at once"
        parts.append(f"{title}\n\n{table(('service', 'p50 ms', 'p99 ms', 'added p50 ms'), rows)}")
        parts.append(picture("at-once.svg", "Turns per second by clients"))
    return parts


def in_flight(results: Results) -> list[str]:
    parts = []
    head = ("service", "turns/s", "of the ideal", "added p50 ms", "added p99 ms", "CPU ms per turn", "MB")
    for plan, rounds in results.named("in-flight"):
        rows = []
        for name, runs in by_contestant(rounds):
            added = [ms(runs, share, UPSTREAM_SECONDS) for share in (0.5, 0.99)]
            rows.append([name, rate(runs), ideal_share(plan, runs), *added, cpu(runs), megabytes(runs)])
        title = f"## In flight: {plan.clients:,} turns at once, an upstream that takes {plan.delay:g} s"
        how = (
            f"Ideal: {plan.ideal:g} turns/s. Every session held {PREFILL_MESSAGES} messages at the start. A turn that "
            f"has no answer {DRAIN_SECONDS:g} s after the {plan.seconds:g} s of the measurement counts as failed."
        )
        parts.append(f"{title}\n\n{table(head, rows)}\n\n{how} {database_note(rounds)}{history_note(rounds)}")
    return [*parts, picture("in-flight.svg", "Turns per second by turns in flight")] if parts else []


def streams(results: Results) -> list[str]:
    parts = []
    head = (
        "service",
        "streams/s",
        "of the ideal",
        "delay p50 ms",
        "delay p99 ms",
        "CPU ms each",
        "MB",
        "failed runs",
    )
    for plan, rounds in results.named("streams"):
        alone = results.direct[plan]
        delays = [f"{percentile(alone.delays, share) * 1000:.1f}" for share in (0.5, 0.99)]
        share = f"{alone.turns_per_second / plan.ideal:.1%}"
        rows = [["the upstream alone", f"{alone.turns_per_second:,.0f}", share, *delays, "", "", ""]]
        for name, runs in by_contestant(rounds):
            late = [f"{delay(runs, share) * 1000:,.1f}" if runs else "" for share in (0.5, 0.99)]
            failed = f"{len(rounds) - len(runs)} of {len(rounds)}"
            rows.append([name, rate(runs), ideal_share(plan, runs), *late, cpu(runs), megabytes(runs), failed])
        title = f"## Streams: {plan.clients:,} at once, {PIECES} pieces {PAUSE * 1000:.0f} ms apart"
        how = (
            f"Ideal: {plan.ideal:g} streams/s. A piece's delay is the time from the upstream's sending to its arrival "
            "at the client; a piece that comes joined with others counts with its own delay. The first row says how "
            "much of it the load generator and the upstream take by themselves."
        )
        parts.append(f"{title}\n\n{table(head, rows)}\n\n{how}")
    return [*parts, picture("streams.svg", "Delay added to a piece by streams")] if parts else []


def history(results: Results) -> list[str]:
    if not results.histories:
        return []
    lengths = [filling.messages for filling in LENGTHS]
    head = (
        "service",
        "sent upstream",
        *(f"{length:,} messages: p50 ms" for length in lengths),
        "longest over shortest",
    )
    rows = []
    for one in results.histories:
        times_ = [f"{one.middle(length) * 1000:.2f}" for length in lengths]
        rows.append([one.contestant, sent(one), *times_, "failed" if one.problems else f"{one.growth:.2f}"])
    how = (
        "One client, which goes round sessions of each length, so that a drift of the machine's speed meets all alike. "
        f"By default BancoBot reads and sends the newest {DEFAULT_WINDOW} messages of a session, so a turn in a long "
        f"one sends ten times as many as one in a session of {lengths[0]}; with `HISTORY_MAX_MESSAGES={EQUAL_WINDOW}` "
        "all send the same, and what remains is the cost of the session's length. The baseline sends everything."
    )
    curve = picture("history.svg", "Time of a turn by the session's length")
    return [f"## Cost against history length\n\n{table(head, rows)}\n\n{how}", curve]


def sent(one: Histories) -> str:
    return "everything" if one.window is None else f"at most {one.window} messages"


def tables(results: Results) -> list[str]:
    if not results.tables:
        return []
    parts = []
    head = ("call", *(f"{size:,} messages: p50 ms" for size in TABLES), "largest over smallest")
    for number, one in enumerate(results.tables, 1):
        rows = []
        for operation in OPERATIONS:
            middles = [one.middle(size, operation) * 1000 for size in TABLES]
            growth = f"{middles[-1] / middles[0]:.2f}" if middles[0] else "failed"
            rows.append([f"`{operation}`", *(f"{middle:.2f}" for middle in middles), growth])
        rates = [median(one.rates.get(size, [])) for size in TABLES]
        growth = f"{rates[-1] / rates[0]:.2f}" if rates[0] else "failed"
        rows.append([f"turns/s, {CLIENTS} clients", *(f"{rate:,.0f}" for rate in rates), growth])
        parts += [f"### {one.contestant}\n\n{table(head, rows)}", picture(f"table-{number}.svg", "Time by table size")]
    how = (
        "Three services on tables of the three sizes are up at the same time; one client asks each in turn, then "
        f"{CLIENTS} clients talk to one after the other, {BLOCKS} times each. All messages belong to one owner, and "
        "the sessions that are talked to and looked at are alike in each table. The baseline has no table."
    )
    return [f"## Cost against table size\n\n{how}", *parts]


def access(results: Results) -> list[str]:
    parts = []
    head = ("service", "turns/s: median (range)", "CPU ms per turn", "p50 ms", "p99 ms", "times without a key")
    for plan, rounds in results.named("access"):
        rows = []
        for name, runs in by_contestant(rounds):
            without = name.partition(",")[0]
            shares = "" if name == without else ", ".join(f"{ratio:.2f}" for ratio in ratios(rounds, name, without))
            rows.append([name, rate(runs), cpu(runs), ms(runs, 0.5), ms(runs, 0.99), shares])
        title = f"## What keys and limits cost: {plan.clients} clients of one owner, an upstream that answers at once"
        parts.append(f"{title}\n\n{table(head, rows)}\n\n{database_note(rounds)}")
    return parts


def profile(results: Results) -> list[str]:
    parts = []
    for plan, rounds in results.named("profile"):
        runs = [(name, found[-1]) for name, found in stored(rounds) if found]
        columns = [milliseconds(run) for _, run in runs]
        labels = sorted({label for column in columns for label in column}, key=lambda label: -most(columns, label))
        rows = [[label, *(cell(column, label) for column in columns)] for label in labels]
        rows.append(["in all", *(f"{sum(column.values()):.2f}" for column in columns)])
        how = (
            f"{plan.clients} clients, an upstream that answers at once. A timer on the CPU time of the event loop's "
            "thread takes a sample every few milliseconds; it counts for the innermost package on the stack, so the "
            "standard library works for whoever called it. All database work is in the writer's thread, of which only "
            "the CPU time is known."
        )
        parts.append(f"## Where the time of a turn goes\n\n{table(profile_head(runs), rows)}\n\n{how}")
    return parts


def profile_head(runs: Sequence[tuple[str, Run]]) -> list[str]:
    return ["what", *(f"{name}: CPU ms per turn (share)" for name, _ in runs)]


def milliseconds(run: Run) -> dict[str, float]:
    """CPU milliseconds per turn by package; shares below SMALL_SHARE are added up."""
    assert run.profile is not None
    profile: Profile = run.profile
    turns, samples = max(1, len(run.window.latencies)), max(1, sum(profile.samples.values()))
    found = {"other threads: the writer": profile.others * 1000 / turns, "others": 0.0}
    for label, count in profile.samples.items():
        name = f"`{label}`" if count >= SMALL_SHARE * samples else "others"
        found[name] = found.get(name, 0.0) + profile.main * 1000 / turns * count / samples
    return found


def most(columns: Sequence[dict[str, float]], label: str) -> float:
    return max(column.get(label, 0.0) for column in columns)


def cell(column: dict[str, float], label: str) -> str:
    value = column.get(label, 0.0)
    return f"{value:.3f} ({value / max(sum(column.values()), 1e-9):.1%})" if value else ""


def rate(runs: Sequence[Run]) -> str:
    values = [run.window.turns_per_second for run in runs]
    if len(values) < 2:
        return f"{values[0]:,.0f}" if values else "failed"
    return f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def ideal_share(plan: Plan, runs: Sequence[Run]) -> str:
    return f"{turns_per_second(runs) / plan.ideal:.1%}" if runs else "failed"


def cpu(runs: Sequence[Run]) -> str:
    values = [run.cpu_ms_per_turn for run in runs if answered([run])]
    return f"{median(values):.2f}" if values else ""


def megabytes(runs: Sequence[Run]) -> str:
    return f"{memory(runs):.0f}" if runs else ""


def ms(runs: Sequence[Run], share: float, less: float = 0.0, digits: int = 1) -> str:
    return f"{(latency(runs, share) - less) * 1000:,.{digits}f}" if answered(runs) else ""


def answered(runs: Sequence[Run]) -> bool:
    """Whether there are figures; an overloaded service may answer too late for all of them."""
    return any(run.window.latencies for run in runs)


def times(rounds: Rounds, name: str) -> str:
    return "" if name == BASELINE.name else ", ".join(f"{ratio:.2f}" for ratio in ratios(rounds, name))


def database_note(rounds: Rounds) -> str:
    used = [run.database_ms_per_turn for runs in rounds for run in runs if run.usage.database and not run.problems]
    return f"The PostgreSQL server took another {median(used):.2f} ms CPU per turn. " if used else ""


def history_note(rounds: Rounds) -> str:
    means = [run.window.mean_history for runs in rounds for run in runs if not run.problems and answered([run])]
    return f"History sent with a turn: {min(means):.1f} to {max(means):.1f} messages on average." if means else ""
