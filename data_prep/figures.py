"""How all plots of the project are drawn: by matplotlib, as SVG text to be put into a page (`data_prep.page`).

    with new_figure("losses", 7.6, 4.4) as figure:
        axes = figure.subplots()
        ...
        return svg_of(figure)

No pyplot, so no display and no global state; no dates and no random ids, so equal numbers give equal bytes. matplotlib
is imported on the first plot only.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#d1642a", "#3a8f5c", "#8a4fa3", "#b3922e", "#5d6b78", "#a63d57", "#0f8b8d")
MARKERS = "os^vPX*<>"  # readable without colour; one more than colours, so that pairs of both repeat late
GREY = "#55616e"
BLACK = "#1c2530"
GRID = "#e6ebf0"
PAGE_COLOURS = {
    **{colour: f"c{number}" for number, colour in enumerate(COLOURS)},
    GREY: "soft",
    BLACK: "ink",
    "#000000": "ink",
    "#ffffff": "paper",
    GRID: "line",
}  # colour to the variable of the page's style that has it
CURVE_POINTS = 1000  # of a plotted curve
FULL_WIDTH = 6.4  # inches; a phone shows such a figure whole, in letters that can be read
LEGEND_WIDTH = 66  # characters in a row of the legend of such a figure

Point = tuple[int, float]


_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "savefig.facecolor": "none",  # the page's background is visible
    "axes.facecolor": "none",
}


@contextmanager
def new_figure(name: str, width: float, height: float) -> "Iterator[Figure]":
    """An empty figure in the project's style, in inches; `name` makes the ids in its SVG reproducible."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        yield Figure(figsize=(width, height), layout="constrained")


def percent_axis(axis: "Axis") -> None:
    """Label an axis of shares from 0 to 1 in per cent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def legend_name(name: str, most: int = 40) -> str:
    """A name that leaves room for the lines: the middle of a longer one is left out.

    >>> legend_name("imagenet_lora"), legend_name("runs/imagenet_lora_seed3", 12)
    ('imagenet_lora', 'runs/i…seed3')
    """
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1) // 2 :]}"


def legend_above(figure: "Figure", names: Sequence[str]) -> None:
    """The legend of a figure above its lines, in as many columns as its names leave room for; none without names."""
    if names:
        figure.legend(loc="outside upper left", ncols=legend_columns(names), frameon=False)


def legend_columns(names: Sequence[str]) -> int:
    """How many columns of a legend fit into a figure of `FULL_WIDTH`.

    >>> legend_columns(["base", "mix"]), legend_columns(["runs/imagenet_lora_seed3"])
    (5, 2)
    """
    return max(1, min(6, LEGEND_WIDTH // (max(map(len, names)) + 8)))


def svg_of(figure: "Figure") -> str:
    """The figure as an <svg> element for an HTML page, without XML head, namespaces and metadata."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z0-9.]+_[0-9]+"', "", text)  # of lines and texts, which a page of several would repeat
    text = re.sub(r"\b(fill|stroke): (#[0-9a-f]{6})", _page_colour, text)
    return text[text.index("<svg") :].strip()


def _page_colour(found: re.Match[str]) -> str:
    """A colour of the project as the page's variable for it, which differs in the dark; others stay as they are."""
    name = PAGE_COLOURS.get(found[2])
    return f"{found[1]}: var(--{name}, {found[2]})" if name else found[0]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` (an even number) of the points: the lowest and the highest of each stretch, so no spike is lost.

    >>> thinned([(1, 2.0), (2, 9.0), (3, 1.0), (4, 1.5)], 2)
    [(2, 9.0), (3, 1.0)]
    """
    if len(points) <= most:
        return list(points)
    stretches = most // 2
    edges = [number * len(points) // stretches for number in range(stretches + 1)]
    kept: list[Point] = []
    for start, end in pairwise(edges):
        low = min(range(start, end), key=lambda index: points[index][1])
        high = max(range(start, end), key=lambda index: points[index][1])
        kept += [points[index] for index in ((start, end - 1) if low == high else sorted((low, high)))]
    return kept


def strokes(points: Iterable[Point]) -> list[list[Point]]:
    """The points in parts of increasing steps.

    >>> strokes([(1, 2.0), (2, 9.0), (1, 2.0)])
    [[(1, 2.0), (2, 9.0)], [(1, 2.0)]]
    """
    found: list[list[Point]] = []
    for point in points:
        if not found or point[0] <= found[-1][-1][0]:
            found.append([])
        found[-1].append(point)
    return found
