"""Curves over the optimizer step, such as losses, with marks at events: an SVG for a page (`data_prep.page`).

    curve_figure([Curve("loss", points), Curve("held out", few_points, measured=True)], marks, "loss")

The legend is above the lines. An axis has several ticks, however small the range of the values is.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_prep.figures import (
    COLOURS,
    CURVE_POINTS,
    FULL_WIDTH,
    MARKERS,
    Point,
    legend_above,
    legend_name,
    new_figure,
    strokes,
    svg_of,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED_FROM = 60  # points; a shorter curve is drawn as it is
WINDOWS = 40  # the smoothing window is the curve's length over this


@dataclass(frozen=True)
class Curve:
    """(step, value) pairs of one line; where the step decreases (a rollback), a new line begins.

    A `measured` curve has few points, each from a whole data set: it is drawn with a mark at each and never smoothed.
    """

    name: str
    points: Sequence[Point]
    measured: bool = False


@dataclass(frozen=True)
class Mark:
    """An event at a step: a vertical line. `text` is its tooltip; the legend names each `label` once."""

    step: int
    label: str
    text: str
    colour: str


def curve_figure(
    curves: Sequence[Curve],
    marks: Sequence[Mark],
    label: str,
    *,
    span: tuple[int, int] | None = None,
    logarithmic: bool = True,
) -> str:
    """Curves over the optimizer step, with marks; `span` are the first and the last step (default: of the curves).

    On a logarithmic axis the values of a long curve are pale and their moving mean is bold. Values that are not finite,
    or on a logarithmic axis not positive, are left out. A mark outside the span is drawn at its end.
    """
    with new_figure(label, FULL_WIDTH, 3.4) as figure:
        axes = figure.subplots()
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(label)
        steps = [step for curve in curves for step, _ in curve.points] or [0]
        first, last = span or (min(steps), max(steps))
        _draw_marks(axes, marks, first, max(last, first + 1))
        for number, curve in enumerate(curves):
            _draw_curve(axes, curve, number, logarithmic=logarithmic)
        values = [value for curve in curves for _, value in curve.points if _drawable(value, logarithmic=logarithmic)]
        readable_ticks(axes, values, logarithmic=logarithmic)
        margin = max(1, last - first) * 0.02
        axes.set_xlim(first - margin, max(last, first + 1) + margin)
        legend_above(figure, axes.get_legend_handles_labels()[1])
        return _with_tooltips(svg_of(figure), marks)


def _draw_curve(axes: "Axes", curve: Curve, number: int, *, logarithmic: bool) -> None:
    colour, name = COLOURS[number % len(COLOURS)], legend_name(curve.name)
    alone = "o" if len(curve.points) == 1 else ""  # a line of one point would not be seen
    for stroke in strokes(curve.points):
        points = [(step, value) for step, value in stroke if _drawable(value, logarithmic=logarithmic)]
        if curve.measured:
            mark = MARKERS[number % len(MARKERS)]
            axes.plot(*_columns(points), f"{mark}--", color=colour, lw=1.3, ms=5, label=name, gid="curve")
        elif logarithmic and len(points) >= SMOOTHED_FROM:
            axes.plot(*_columns(thinned(points, CURVE_POINTS)), color=colour, lw=0.8, alpha=0.35, gid="values")
            smooth = thinned(smoothed(points, window(len(points))), CURVE_POINTS)
            axes.plot(*_columns(smooth), color=colour, lw=1.8, label=name, gid="curve")
        else:
            axes.plot(*_columns(points), f"{alone}-", color=colour, lw=1.5, label=name, gid="curve")
        name = "_"  # one entry of the legend for all strokes


def _drawable(value: float, *, logarithmic: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not logarithmic)


def _columns(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def window(length: int) -> int:
    """How many values the moving mean of a curve of `length` points is of: an odd number.

    >>> window(400), window(40)
    (11, 1)
    """
    return 1 if length < SMOOTHED_FROM else length // WINDOWS | 1


def smoothed(points: Sequence[Point], size: int) -> list[Point]:
    """Each value as the mean of the `size` values around it, of fewer at both ends.

    >>> smoothed([(1, 3.0), (2, 6.0), (3, 0.0)], 3)
    [(1, 4.5), (2, 3.0), (3, 3.0)]
    """
    half = size // 2
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    found = []
    for number, (step, _) in enumerate(points):
        first, last = max(0, number - half), min(len(points), number + half + 1)
        found.append((step, (sums[last] - sums[first]) / (last - first)))
    return found


def readable_ticks(axes: "Axes", values: Sequence[float], *, logarithmic: bool) -> None:
    """Give `axes` several ticks in both directions; `values`, positive if `logarithmic`, are what it shows."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator  # slow to import

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        if values:
            margin = max(1.01, (max(values) / min(values)) ** 0.04)
            low, high = min(values) / margin, max(values) * margin
            axes.set_ylim(low, high)
            axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    elif values and min(values) == max(values):  # a level line between numbers that could have been measured
        margin = abs(values[0]) * 0.1 or 1.0
        axes.set_ylim(values[0] - margin if values[0] else 0.0, values[0] + margin)
    axes.yaxis.set_major_formatter("{x:g}")


def log_ticks(low: float, high: float) -> list[float]:
    """From three to thirteen round numbers on a logarithmic axis that spans `low` to `high`, also in its outer thirds.

    >>> log_ticks(0.3, 40.0), log_ticks(1.0, 1.15), log_ticks(1e-5, 1e4)
    ([0.5, 1.0, 2.0, 5.0, 10.0, 20.0], [1.0, 1.05, 1.1, 1.15], [1e-05, 0.001, 0.1, 10.0, 1000.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for parts in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3)):
        ticks = [float(f"{part}e{power}") for power in range(first, last + 1) for part in parts]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) < 4:
            break
        if len(ticks) <= 8:
            return ticks
    else:
        stride = -(-(last - first) // 8)
        ticks = [float(f"1e{power}") for power in range(first, last + 1, stride)]
        return [tick for tick in ticks if low <= tick <= high]
    from matplotlib.ticker import MaxNLocator  # slow to import

    third = (high / low) ** (1 / 3)
    ticks = []
    for bins in range(5, 14):
        linear = [float(f"{tick:.10g}") for tick in MaxNLocator(bins, steps=[1, 2, 5, 10]).tick_values(low, high)]
        ticks = [tick for tick in linear if low <= tick <= high]
        if len(ticks) >= 3 and ticks[0] <= low * third and ticks[-1] >= high / third:
            break
    return ticks


def _draw_marks(axes: "Axes", marks: Sequence[Mark], first: int, last: int) -> None:
    labelled: set[str] = set()
    for number, mark in enumerate(marks):
        name = None if mark.label in labelled else mark.label
        labelled.add(mark.label)
        step = min(max(mark.step, first), last)
        axes.axvline(step, color=mark.colour, lw=2, alpha=0.55, label=name, gid=f"mark-{number}")


def _with_tooltips(svg: str, marks: Sequence[Mark]) -> str:
    """Give each mark its <title>; matplotlib writes none. Ids become classes: a page may hold several figures."""
    for number, mark in enumerate(marks):
        tooltip = f'<g class="mark"><title>{html.escape(mark.text)}</title>'
        svg = svg.replace(f'<g id="mark-{number}">', tooltip)
    return svg.replace('<g id="curve">', '<g class="curve">').replace('<g id="values">', '<g class="values">')
