"""Loss curves with marks, as SVG text: no library, no script, so the page opens anywhere and is small."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 960, 360, 60, 24, 40
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
MARKS = {"recovered": "#2ca02c", "accepted": "#888", "recovering": "#ff7f0e", "rolled_back": "#9467bd"}
ALARM = "#d62728"
MOST_POINTS = 1000


@dataclass(frozen=True)
class Curve:
    """One line: (step, value) pairs; a step that comes again after a rollback begins a new stroke."""

    name: str
    points: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Mark:
    """An event at a step."""

    step: int
    kind: str
    text: str


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about `MOST_POINTS` points; of each stretch the lowest and the highest stay, so no spike is lost.

    >>> thinned([(0, 1.0), (1, 9.0)])
    [(0, 1.0), (1, 9.0)]
    """
    finite = [(step, value) for step, value in points if math.isfinite(value) and value > 0]
    stretch = max(1, -(-2 * len(finite) // MOST_POINTS))
    if stretch < 3:
        return finite
    kept: list[tuple[int, float]] = []
    for start in range(0, len(finite), stretch):
        part = finite[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def levels_between(low: float, high: float) -> list[float]:
    """Round values between 10^low and 10^high: 1, 2 and 5, or where these are many only powers of ten.

    >>> levels_between(-1.1, 0.4)
    [0.1, 0.2, 0.5, 1.0, 2.0]
    """
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    found = [level for level in found if low <= math.log10(level) <= high]
    if len(found) <= 7:
        return found
    tens = [10.0**power for power in powers if low <= power <= high]
    return tens[:: -(-len(tens) // 7)]


def steps_between(first: int, last: int) -> list[int]:
    """At most 8 round steps.

    >>> steps_between(1, 600)
    [100, 200, 300, 400, 500, 600]
    """
    apart = next(size for power in range(12) for size in (10**power, 2 * 10**power, 5 * 10**power)
                 if last // size - (first - 1) // size <= 8)  # fmt: skip
    return list(range(-(-first // apart) * apart, last + 1, apart))


def strokes(points: Iterable[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Cut where the step falls back.

    >>> strokes([(1, 2.0), (2, 9.0), (1, 2.0)])
    [[(1, 2.0), (2, 9.0)], [(1, 2.0)]]
    """
    found: list[list[tuple[int, float]]] = []
    for point in points:
        if not found or point[0] <= found[-1][-1][0]:
            found.append([])
        found[-1].append(point)
    return found


def svg(curves: Sequence[Curve], marks: Sequence[Mark], label: str) -> str:
    """The plot: logarithmic upwards, steps to the right, a vertical line with a tooltip for each mark."""
    kept = [(curve.name, [thinned(stroke) for stroke in strokes(curve.points)]) for curve in curves]
    values = [value for _, lines in kept for line in lines for _, value in line] or [1.0]
    steps = [step for curve in curves for step, _ in curve.points] or [0]
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return 10 + (high - math.log10(value)) / (high - low) * (HEIGHT - BOTTOM - 10)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="12">']
    for level in levels_between(low, high):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">{level:g}</text>')
    for step in steps_between(first, last):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>')
    for mark in marks:
        colour, place = MARKS.get(mark.kind, ALARM), x(min(max(mark.step, first), last))
        title = f"<title>{html.escape(mark.text)}</title>"
        parts.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="10" y2="{HEIGHT - BOTTOM}" stroke="{colour}" '
            f'stroke-width="2" stroke-opacity="0.35">{title}</line>'
        )
    for number, (name, lines) in enumerate(kept):
        colour = COLOURS[number % len(COLOURS)]
        for line in lines:
            path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in line)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        parts.append(f'<text x="{WIDTH - RIGHT - 4}" y="{24 + 16 * number}" text-anchor="end" fill="{colour}">')
        parts.append(f"{html.escape(name)}</text>")
    shown = {mark.kind if mark.kind in MARKS else "alarm" for mark in marks}
    for number, kind in enumerate(kind for kind in ("alarm", *MARKS) if kind in shown):
        text, colour = kind.replace("_", " "), MARKS.get(kind, ALARM)
        parts.append(f'<text x="{LEFT + 90 * number}" y="{HEIGHT - 4}" fill="{colour}">| {text}</text>')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">optimizer step; {html.escape(label)}</text>'
    )
    return "".join([*parts, "</svg>"])
