"""A chart as SVG: points over categories, joined by lines, one colour for each series."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 840, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 240, 45, 40  # the legend stands on the right
COLOURS = ("#888888", "#1f6fb2", "#c2571a", "#3c8d40", "#7b4ab0", "#b03060")
STYLE = "text{font:13px sans-serif;fill:#222}.title{font-size:15px;font-weight:bold}.grid{stroke:#ddd}"
Values = Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """`series` has a value per category; None where there is none, which also breaks the line. `log`: powers of ten."""

    title: str
    unit: str
    categories: Sequence[str]
    series: Mapping[str, Values]
    log: bool = False

    def svg(self) -> str:
        scale = Scale.over([value for values in self.series.values() for value in values if value], log=self.log)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{escape(self.title)}</title><style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            _text(LEFT, 22, f"{self.title} ({self.unit})", "start", "title"),
            *[_grid_line(scale, tick) for tick in scale.ticks],
            *[_text(self._x(i), HEIGHT - BOTTOM + 22, name, "middle") for i, name in enumerate(self.categories)],
        ]
        for number, (name, values) in enumerate(self.series.items()):
            colour = COLOURS[number % len(COLOURS)]
            parts += [self._legend(number, name, colour), *self._line(values, scale, colour)]
            parts += self._points(name, values, scale, colour)
        return "\n".join([*parts, "</svg>", ""])

    def _x(self, category: int) -> float:
        width = (WIDTH - LEFT - RIGHT) / len(self.categories)
        return LEFT + width * (category + 0.5)

    def _legend(self, number: int, name: str, colour: str) -> str:
        x, y = WIDTH - RIGHT + 20, TOP + 10 + 24 * number
        return f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>' + _text(x + 12, y + 4, name, "start")

    def _line(self, values: Values, scale: "Scale", colour: str) -> list[str]:
        lines = []
        for category, (one, next_) in enumerate(itertools.pairwise(values)):
            if one and next_:
                ends = f'x1="{self._x(category):.1f}" y1="{scale.y(one):.1f}"'
                ends += f' x2="{self._x(category + 1):.1f}" y2="{scale.y(next_):.1f}"'
                lines.append(f'<line {ends} stroke="{colour}" stroke-width="2"/>')
        return lines

    def _points(self, name: str, values: Values, scale: "Scale", colour: str) -> list[str]:
        return [
            f'<circle cx="{self._x(category):.1f}" cy="{scale.y(value):.1f}" r="4" fill="{colour}">'
            f"<title>{escape(f'{name}, {self.categories[category]}: {value:,.4g} {self.unit}')}</title></circle>"
            for category, value in enumerate(values)
            if value
        ]


@dataclass(frozen=True)
class Scale:
    """The vertical axis: positions of values and of grid lines."""

    lowest: float
    highest: float
    ticks: Sequence[float]
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool) -> "Scale":
        if log:
            first = math.floor(math.log10(min(values, default=1)))
            last = max(first + 1, math.ceil(math.log10(max(values, default=10))))
            ticks = [10.0**power for power in range(first, last + 1)]
        else:
            step = _round_up(max(values, default=1) / 5)
            ticks = [step * number for number in range(math.ceil(max(values, default=1) / step) + 1)]
        return cls(ticks[0], ticks[-1], ticks, log)

    def y(self, value: float) -> float:
        low, high, place = self.lowest, self.highest, value
        if self.log:
            low, high, place = math.log10(low), math.log10(high), math.log10(value)
        return HEIGHT - BOTTOM - (place - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * 0.999)


def _grid_line(scale: Scale, tick: float) -> str:
    y = scale.y(tick)
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 8, y + 4, f"{tick:,g}", "end")


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    name = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(text)}</text>'
