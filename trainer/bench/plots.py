"""Where everything stands in the plots of a result; the page draws it. Lengths are pixels, y grows downwards."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.bench.measured import COMPLETED
from trainer.bench.numbers import relative, rounded, size, spread
from trainer.bench.statistics import Interval, Power

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 340, 104, 46
"""Of a plot with two axes, and of what its axes take."""
NAMES, BAR, END = 250, 26, 130
"""Of a plot of bars: the names' width, a bar's height with its gap, and the room for its number."""
_ROOM = 0.06
"""Of an axis, free at either end."""
MOST_TICKS = 6


@dataclass(frozen=True)
class Bar:
    """One row, as a bar."""

    name: str
    text: str
    """Its number, in words."""
    y: float
    length: float
    low: float | None
    """Where its interval begins and ends; None where it has none."""
    high: float | None


def bars(
    rows: Sequence[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], Mapping[str, Any]], words: str
) -> list[Bar]:
    """The bars of an interval of each completed row; `words` names how numbers are shown."""
    told = [(row["name"], value(row)) for row in rows if row["status"] == COMPLETED]
    most = max((max(over["mean"], over["high"] or 0) for _, over in told), default=0) or 1
    scale = (WIDTH - NAMES - END) / most
    shown: Callable[[Mapping[str, Any]], str] = relative if words == "rate" else lambda over: size(over["mean"])
    return [
        Bar(
            name,
            shown(over),
            index * BAR,
            round(over["mean"] * scale, 1),
            None if over["low"] is None else round(max(0, over["low"]) * scale, 1),
            None if over["high"] is None else round(over["high"] * scale, 1),
        )
        for index, (name, over) in enumerate(told)
    ]


@dataclass(frozen=True)
class Tick:
    """A mark of an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A row of a plot with two axes."""

    x: float
    y: float
    number: int | None
    """The row's number in the table."""
    title: str
    best: bool = False
    """Whether no other row is better in both."""


@dataclass(frozen=True)
class Plot:
    """A plot with two axes."""

    title: str
    across: str
    """What the axes tell."""
    up: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    points: tuple[Point, ...]
    line: str = ""
    """Corners of a line, as SVG takes them."""
    note: str = ""


def pareto(rows: Sequence[Mapping[str, Any]]) -> Plot | None:
    """Tokens a second against peak memory, and the rows that no other beats in both; None for less than two rows."""
    told = [
        (number, row, row["memory"]["peak"]["mean"], row["tokens_per_second"]["mean"])
        for number, row in enumerate(rows, start=1)
        if row["status"] == COMPLETED
    ]
    if len(told) < 2:
        return None
    x, y = _Axis([one[2] for one in told], size), _Axis([one[3] for one in told], rounded)
    best = {one[0] for one in told if not any(_beats(other, one) for other in told)}
    points = [
        Point(
            x.across(memory),
            y.up(rate),
            number,
            f"{row['name']}: {rounded(rate)} tokens/s in {size(memory)}",
            number in best,
        )
        for number, row, memory, rate in told
    ]
    front = sorted((point for point in points if point.best), key=lambda point: point.x)
    return Plot(
        "What no other row beats in both speed and memory",
        "peak memory",
        "tokens/s",
        x.ticks(x.across),
        y.ticks(y.up),
        tuple(points),
        " ".join(f"{point.x},{point.y}" for point in front),
    )


def _beats(other: tuple[int, Any, float, float], one: tuple[int, Any, float, float]) -> bool:
    return other[2] <= one[2] and other[3] >= one[3] and other[2:] != one[2:]


def growth(entry: Mapping[str, Any], what: str) -> Plot | None:
    """One measure of a sweep against its size, both as logarithms, and the power law through it."""
    if entry["fit"] is None:
        return None
    told = Power(Interval(**entry["fit"]["exponent"]), entry["fit"]["factor"])
    sizes = sorted({point[0] for point in entry["points"]})
    fitted = [told.at(one) for one in sizes]
    shown = size if "memory" in entry["measure"] else rounded
    x = _Axis(sizes, rounded, log=True)
    y = _Axis([*fitted, *(point[1] for point in entry["points"])], shown, log=True)
    points = (Point(x.across(at), y.up(value), None, f"{at:,}: {shown(value)}") for at, value in entry["points"])
    verdict = {None: "", True: "; faster than the theory says", False: ""}[entry["faster"]]
    return Plot(
        f"{entry['sweep']}: {what}",
        entry["sweep"],
        what,
        tuple(Tick(x.across(one), f"{one:,}") for one in sizes),
        y.ticks(y.up),
        tuple(points),
        " ".join(f"{x.across(one)},{y.up(value)}" for one, value in zip(sizes, fitted, strict=True)),
        f"Grows as size to the power of {spread(entry['fit']['exponent'])}; at most {entry['at_most']:g}{verdict}.",
    )


def curve(
    title: str, x: Sequence[float], y: Sequence[float], line: Sequence[float], marked: Mapping[int, str], up: str
) -> Plot:
    """Values over rates, which are told as logarithms, with a line through them that has the marked points; values far
    above the line are left out.
    """
    most = max(line) + 0.1 * (max(line) - min(line))
    near = [at for at in range(len(x)) if y[at] <= most and at not in marked]
    across = _Axis(x, "{:.0e}".format, log=True)
    upward = _Axis([*line, *(y[at] for at in near)], "{:g}".format)
    points = [
        *(Point(across.across(x[at]), upward.up(y[at]), None, f"{x[at]:.1e}: {y[at]:.4f}") for at in near),
        *(Point(across.across(x[at]), upward.up(line[at]), None, words, True) for at, words in marked.items()),
    ]
    drawn = " ".join(f"{across.across(one)},{upward.up(value)}" for one, value in zip(x, line, strict=True))
    ticks = across.ticks(across.across), upward.ticks(upward.up)
    return Plot(title, "optimizer.lr", up, *ticks, tuple(points), drawn, "")


class _Axis:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], text: Callable[[float], str], *, log: bool = False) -> None:
        self.log, self.text = log, text
        # Round numbers of bytes are round in the unit that they are told in.
        self.unit = 1 if text is not size else 2**30 if max(values) >= 2**31 else 2**20
        own = [self._scaled(value) for value in values]
        low, high = min(own), max(own)
        room = (high - low or abs(high) or 1) * _ROOM
        self.low, self.high = low - room, high + room

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _part(self, value: float) -> float:
        return (self._scaled(value) - self.low) / (self.high - self.low)

    def across(self, value: float) -> float:
        """Pixels from the left."""
        return round(LEFT + self._part(value) * (WIDTH - LEFT - 10), 1)

    def up(self, value: float) -> float:
        """Pixels from the top."""
        return round((1 - self._part(value)) * (HEIGHT - BOTTOM - 10) + 10, 1)

    def ticks(self, place: Callable[[float], float]) -> tuple[Tick, ...]:
        """Marks at round numbers."""
        found = self._decades() if self.log else self._steps()
        return tuple(Tick(place(value), self.text(value)) for value in found)

    def _steps(self) -> Iterator[float]:
        """Equal steps of 1, 2 or 5 times a power of ten."""
        low, high = self.low / self.unit, self.high / self.unit
        span = (high - low) / MOST_TICKS
        power = 10 ** math.floor(math.log10(span))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span)
        yield from (step * count * self.unit for count in range(math.ceil(low / step), math.floor(high / step) + 1))

    def _decades(self) -> list[float]:
        """1, 2 and 5 times powers of ten, as many as are readable."""
        low, high = (10**end / self.unit for end in (self.low, self.high))
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        inside: list[float] = []
        for factors in ((1, 2, 5), (1, 3), (1,)):
            inside = [one for power in powers for factor in factors if low <= (one := factor * 10.0**power) <= high]
            if len(inside) <= MOST_TICKS:
                break
        return [value * self.unit for value in inside or [low, high]]
