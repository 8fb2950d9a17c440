"""Charts of a page that are HTML, not pictures: their text keeps its size on a narrow screen.

    Bars([Bar("tench", 0.82, "82.0 %, n = 50", 0.69, 0.90)], "Accuracy of each class")
    HeatMap(("cat", "dog"), ("cat", "dog"), [[8, 2], [1, 9]], "right name", "answer", "Confusions")

Blocks of `data_prep.page`, drawn by its template.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

PERCENT_TICKS = ((0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %"))
LONG_BARS = 40  # bars; the rest is folded
LONGEST_VALUE = 40  # characters of a bar's text in one line
NUMBERED_COLUMNS = 30  # a heat map with more columns shows its numbers in tooltips only


@dataclass(frozen=True, slots=True)
class Bar:
    """One value: `text` is printed next to it, `low` to `high` is its interval, `colour` counts from 0."""

    name: str
    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars, or dots with `dots`, with their intervals, one below the other on the axis from `ticks[0]` to `ticks[-1]`.

    `ticks` are (value, text) in increasing order. A bar begins at 0, or at the axis's end that is next to it.
    """

    kind: ClassVar[str] = "bars"
    bars: Sequence[Bar]
    caption: str
    ticks: Sequence[tuple[float, str]] = PERCENT_TICKS
    dots: bool = False

    def position(self, value: float) -> float:
        """Where a value is on the axis, from 0 to 100.

        >>> Bars((), "", ((-1.0, "-1"), (1.0, "1"))).position(0.5)
        75.0
        """
        low, high = self.ticks[0][0], self.ticks[-1][0]
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)

    def span(self, first: float, last: float) -> str:
        """The CSS position of a stretch of the axis."""
        start, end = sorted((self.position(first), self.position(last)))
        return f"left:{start:g}%;width:{end - start:g}%"

    @property
    def value_width(self) -> int:
        """Characters of the column of texts: one width for all bars, so that they share an axis; longer texts wrap."""
        return min(LONGEST_VALUE, max((len(bar.text) for bar in self.bars), default=0))

    @property
    def origin(self) -> float:
        """Where bars begin."""
        return min(max(0.0, self.ticks[0][0]), self.ticks[-1][0])

    @property
    def shown(self) -> Sequence[Bar]:
        """The bars that are not folded."""
        return self.bars if len(self.bars) <= LONG_BARS * 1.25 else self.bars[:LONG_BARS]

    @property
    def folded(self) -> Sequence[Bar]:
        """The others."""
        return self.bars[len(self.shown) :]


def close_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks in steps of 5, 10 or 25 per cent around `low` to `high`, at least 20 points apart, within 0 and 1.

    >>> close_ticks(0.913, 0.962)
    [(0.8, '80 %'), (0.85, '85 %'), (0.9, '90 %'), (0.95, '95 %'), (1.0, '100 %')]
    """
    first, last = max(0, math.floor(10 * low)), min(10, math.ceil(10 * high))
    while last - first < 2:
        first, last = (first - 1, last) if last > 9 else (first, last + 1)
    span = 10 * (last - first)
    step = 5 if span <= 20 else 10 if span <= 50 else 25
    if step == 25:
        first, last = 0, 10
    return [(value / 100, f"{value} %") for value in range(10 * first, 10 * last + 1, step)]


def dots(bars: Sequence[Bar], caption: str) -> Bars:
    """Shares as dots with their intervals, on an axis that shows their differences."""
    ends = [end for bar in bars for end in (bar.low, bar.value, bar.high) if end is not None]
    return Bars(bars, caption, close_ticks(min(ends), max(ends)) if ends else PERCENT_TICKS, dots=True)


def difference_dots(bars: Sequence[Bar], caption: str) -> Bars:
    """Differences of shares as dots with their intervals, on an axis in points with 0 in its middle."""
    ends = [abs(end) for bar in bars for end in (bar.low, bar.value, bar.high) if end is not None]
    most = next((share for share in (0.02, 0.05, 0.1, 0.2, 0.5) if max(ends, default=0.0) <= share), 1.0)
    ticks = [(part * most, f"{100 * part * most:+g}" if part else "0") for part in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    return Bars(bars, caption, ticks, dots=True)


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A matrix of counts with a row and a column name each; a cell is coloured by its share of the row.

    Cells whose row and column have the same name are in another colour: those are not confusions.
    """

    kind: ClassVar[str] = "heat_map"
    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]
    row_title: str
    column_title: str
    caption: str
    totals: Sequence[int] = ()  # of each row, where a row's counts are not all of it

    @property
    def numbered(self) -> bool:
        """Whether the cells have room for their numbers."""
        return len(self.columns) <= NUMBERED_COLUMNS

    def cells(self, row: int) -> list[tuple[int, str, int, str]]:
        """(count, CSS class, strength from 0 to 100, tooltip) of each cell of a row."""
        name, counts = self.rows[row], self.counts[row]
        total = self.totals[row] if self.totals else sum(counts)
        found = []
        for column, count in zip(self.columns, counts, strict=True):
            strength = round(30 + 70 * count / total) if total else 30  # one item of many is visible too
            style = "same" if column == name else "other"
            found.append((count, style, strength, f"{name} → {column}: {count:,} of {total:,}"))
        return found
