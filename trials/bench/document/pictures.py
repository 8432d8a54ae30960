"""The curves of a report, as charts."""

from collections.abc import Callable

from trials.bench.document.chart import Chart
from trials.bench.results import Results, Rounds, by_contestant, delay, turns_per_second
from trials.bench.scenarios import Plan, Run
from trials.bench.sizes import LENGTHS, OPERATIONS, TABLES

Figure = Callable[[list[Run]], float]


def draw(results: Results) -> dict[str, Chart]:
    """The charts with figures, by file name."""
    charts = {
        "at-once.svg": turns(results, "single", "throughput"),
        "in-flight.svg": turns(results, "in-flight"),
        "streams.svg": streams(results),
        "history.svg": history(results),
    }
    charts |= {f"table-{number}.svg": chart for number, chart in enumerate(tables(results), 1)}
    return {name: chart for name, chart in charts.items() if any(any(values) for values in chart.series.values())}


def over(plans: list[tuple[Plan, Rounds]], figure: Figure) -> dict[str, list[float | None]]:
    """A figure of each plan's runs, by contestant."""
    names = dict.fromkeys(name for _, rounds in plans for name, _ in by_contestant(rounds))
    columns = [dict(by_contestant(rounds)) for _, rounds in plans]
    return {name: [figure(runs) if (runs := column.get(name)) else None for column in columns] for name in names}


def turns(results: Results, *names: str) -> Chart:
    plans = [found for name in names for found in results.named(name)]
    series = over(plans, turns_per_second)
    if plans and plans[0][0].delay:
        series["ideal"] = [plan.ideal for plan, _ in plans]
    kind = "turns in flight" if "ideal" in series else "clients"
    return Chart(f"Turns per second by {kind}", "turns/s", [f"{plan.clients:,}" for plan, _ in plans], series)


def streams(results: Results) -> Chart:
    plans = results.named("streams")
    series = over(plans, lambda runs: delay(runs, 0.99) * 1000)
    names = [f"{plan.clients:,} streams" for plan, _ in plans]
    return Chart("Delay added to a piece, 99th percentile", "ms", names, series, log=True)


def history(results: Results) -> Chart:
    names = [f"{filling.messages:,} messages" for filling in LENGTHS]
    series: dict[str, list[float | None]] = {}
    for one in results.histories:
        name = one.contestant.removeprefix("BancoBot on ") + (f", window {one.window}" if one.window else "")
        series[name] = [one.middle(filling.messages) * 1000 for filling in LENGTHS]
    return Chart("Time of a turn by the session's length, median", "ms", names, series, log=True)


def tables(results: Results) -> list[Chart]:
    """One for each database."""
    names = [f"{size:,} messages" for size in TABLES]
    return [
        Chart(
            f"Time of a call by the table's size, median, {one.contestant}",
            "ms",
            names,
            {operation: [one.middle(size, operation) * 1000 for size in TABLES] for operation in OPERATIONS},
        )
        for one in results.tables
    ]
