"""BancoBot's goals against the measured figures."""

from trials.bench.results import Results, Rounds, delay, memory, ratios, stored, turns_per_second
from trials.bench.scenarios import Plan, median
from trials.bench.sizes import EQUAL_WINDOW, LENGTHS, Histories

TIMES_THE_BASELINE = 2.0
SHARE_IN_FLIGHT = {1_000: 0.98, 2_000: 0.85}
MEGABYTES = 200
FULL_RATE = 0.95  # a turn takes its commits besides its stream
STREAMS_ON_TIME, STREAMS_WITHOUT_FAILURE = 200, 1_000
ADDED_SECONDS = 0.02
GROWTH = 1.1
Row = tuple[str, str, str]


def rows(results: Results) -> list[Row]:
    """Goal, figure, verdict."""
    found: list[Row] = []
    for plan, rounds in results.named("throughput"):
        found += throughput(plan, rounds)
    for plan, rounds in results.named("in-flight"):
        found += in_flight(plan, rounds)
    for plan, rounds in results.named("streams"):
        found += streams(plan, rounds)
    return found + [history(one) for one in results.histories if one.window is not None]


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def throughput(plan: Plan, rounds: Rounds) -> list[Row]:
    found = []
    for name, _ in stored(rounds):
        ratio = median(ratios(rounds, name))
        goal = f"{plan.clients} clients: {TIMES_THE_BASELINE:g} times the baseline's turns per second or more ({name})"
        found.append((goal, f"{ratio:.2f}", verdict(ratio >= TIMES_THE_BASELINE)))
    return found


def in_flight(plan: Plan, rounds: Rounds) -> list[Row]:
    found = []
    least = SHARE_IN_FLIGHT[plan.clients]
    for name, runs in stored(rounds):
        share, peak = turns_per_second(runs) / plan.ideal, memory(runs)
        goal = f"{plan.clients:,} in flight: {least:.0%} of the ideal rate or more ({name})"
        found.append((goal, f"{share:.1%}", verdict(share >= least)))
        goal = f"{plan.clients:,} in flight: under {MEGABYTES} MB ({name})"
        found.append((goal, f"{peak:.0f} MB", verdict(0 < peak < MEGABYTES)))
    return found


def streams(plan: Plan, rounds: Rounds) -> list[Row]:
    found = []
    for name, runs in stored(rounds):
        if plan.clients == STREAMS_WITHOUT_FAILURE:
            failed = sum(bool(run.problems) for each in rounds for run in each if run.contestant == name)
            figure = f"{failed} of {len(rounds)} runs with a failure"
            found.append((f"{plan.clients:,} streams: no failure ({name})", figure, verdict(not failed)))
        if plan.clients == STREAMS_ON_TIME:
            share, late = turns_per_second(runs) / plan.ideal, delay(runs, 0.99)
            goal = f"{plan.clients} streams: the full rate (here: {FULL_RATE:.0%} of the ideal one or more; {name})"
            found.append((goal, f"{share:.1%}", verdict(share >= FULL_RATE)))
            goal = f"{plan.clients} streams: 99 of 100 pieces less than {ADDED_SECONDS * 1000:.0f} ms late ({name})"
            found.append((goal, f"{late * 1000:.1f} ms", verdict(0 < late < ADDED_SECONDS)))
    return found


def history(one: Histories) -> Row:
    window = "the same history sent" if one.window == EQUAL_WINDOW else f"at most {one.window} messages sent"
    lengths = f"{LENGTHS[-1].messages:,} messages within {GROWTH} of one at {LENGTHS[0].messages}"
    goal = f"a turn at {lengths}, {window} ({one.contestant})"
    return goal, f"{one.growth:.2f}", verdict(0 < one.growth <= GROWTH and not one.problems)
