"""Draws charts as SVG paths. The style sheet says how they look."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 24
ACROSS, DOWN = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
FLOOR = TOP + DOWN
MAX_LABELS = 8  # below the axis

FormatValue = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """`kind` is its class in the style sheet. `values` has one for each step; `None` means unknown."""

    kind: str
    label: Any
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Label:
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Mark:
    """`shape`: bars, line or dots. `path`: the whole series."""

    kind: str
    shape: str
    path: str


@dataclass(slots=True)
class Chart:
    """`steps`: the text for each hour or day, and where its strip begins."""

    title: Any
    series: Sequence[Series]
    rows: list[Label]
    columns: list[Label]
    steps: list[Label]
    marks: list[Mark] = field(default_factory=list)

    width, height, left, right, top, floor, down = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, FLOOR, DOWN
    middle = LEFT + ACROSS / 2

    @property
    def step(self) -> float:
        return round(ACROSS / len(self.steps), 2)

    @property
    def description(self) -> str:
        return "; ".join(step.text for step in self.steps)

    @property
    def is_empty(self) -> bool:
        return not any(value for series in self.series for value in series.values)


def nice_top(most: float) -> float:
    """The next of 1, 2, 4, 5 and 10 times a power of ten: numbers whose half is round too."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(factor * power for factor in (1, 2, 4, 5, 10) if factor * power >= most * (1 - 1e-9))


def frame(title: Any, names: Sequence[str], series: Sequence[Series], top: float, format_value: FormatValue) -> Chart:
    """A chart without its marks. `names` are those of the steps, from left to right."""
    step, every = ACROSS / len(names), math.ceil(len(names) / MAX_LABELS)
    newest = len(names) - 1  # it always has a label, because readers look for it
    columns = [
        Label(name, round(LEFT + step * (number + 0.5), 1))
        for number, name in enumerate(names)
        if (newest - number) % every == 0
    ]
    rows = [Label(format_value(top * share), FLOOR - DOWN * share) for share in (0.0, 0.5, 1.0)]
    steps = [
        Label(f"{name}: {tooltip(series, number, format_value)}", round(LEFT + step * number, 2))
        for number, name in enumerate(names)
    ]
    return Chart(title, series, rows, columns, steps)


def tooltip(series: Iterable[Series], number: int, format_value: FormatValue) -> str:
    values = [(one.label, one.values[number]) for one in series]
    return ", ".join(f"{label} {format_value(value)}" for label, value in values if value is not None) or "–"


def bars(title: Any, names: Sequence[str], series: Sequence[Series], format_value: FormatValue) -> Chart:
    """A bar for each step, with all series stacked."""
    top = nice_top(max(sum(one.values[number] or 0 for one in series) for number in range(len(names))))
    chart = frame(title, names, series, top, format_value)
    step = ACROSS / len(names)
    below = [float(FLOOR)] * len(names)
    for one in series:
        path = []
        for number, value in enumerate(one.values):
            if value:
                below[number] -= DOWN * value / top
                left, wide, high = LEFT + step * (number + 0.12), step * 0.76, DOWN * value / top
                path.append(f"M{left:.1f} {below[number]:.2f}h{wide:.1f}v{high:.2f}h-{wide:.1f}z")
        chart.marks.append(Mark(one.kind, "bars", "".join(path)))
    return chart


def lines(title: Any, names: Sequence[str], series: Sequence[Series], format_value: FormatValue) -> Chart:
    """A line for each series, with gaps for unknown values, and a dot for each value. The axis begins at zero."""
    top = nice_top(max(value or 0 for one in series for value in one.values))
    chart = frame(title, names, series, top, format_value)
    step = ACROSS / len(names)
    for one in series:
        line, dots, before = [], [], None
        for number, value in enumerate(one.values):
            if value is not None:
                place = f"{LEFT + step * (number + 0.5):.1f} {FLOOR - DOWN * value / top:.2f}"
                line.append(f"{'M' if before is None else 'L'}{place}")
                dots.append(f"M{place}h0")
            before = value
        chart.marks += [Mark(one.kind, "line", "".join(line)), Mark(one.kind, "dots", "".join(dots))]
    return chart
