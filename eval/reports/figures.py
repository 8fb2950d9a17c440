"""The figures of reports, as SVG text for a page."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from data_prep.figures import COLOURS, FULL_WIDTH, GREY, MARKERS, legend_above, new_figure, percent_axis, svg_of
from eval.metrics.accuracy import ClassResult, log_bins, thirds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEVER = 0.3  # position of classes that never occur, on the logarithmic axis


def frequency_figure(models: Mapping[str, Sequence[ClassResult]]) -> str:
    """The paper's Figure 3: each class's accuracy over its frequency in the training data, on a log scale.

    Dots are classes; the line joins the mean accuracies of bins of the frequency: powers of ten, or thirds where the
    classes span too few of these. One colour and one mark a model.
    """
    with new_figure("frequency", FULL_WIDTH, 4.2) as figure:
        draw_frequency(figure.subplots(), models)
        if len(models) > 1:
            legend_above(figure, list(models))
        return svg_of(figure)


def draw_frequency(axes: "Axes", models: Mapping[str, Sequence[ClassResult]], others: Sequence[float] = ()) -> None:
    """Draw the dots and lines of all models into `axes`; the axis also spans the frequencies `others`."""
    frequencies = [c.frequency for classes in models.values() for c in classes if c.frequency is not None]
    for number, (name, classes) in enumerate(models.items()):
        colour, mark = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        known = [c for c in classes if c.frequency is not None]
        positions, accuracies = [_position(c.frequency or 0) for c in known], [c.rate.value for c in known]
        size = 26 if len(known) <= 200 else 9
        axes.scatter(positions, accuracies, s=size, marker=mark, color=colour, alpha=0.4, linewidths=0)
        bins = log_bins(known) if len(log_bins(known)) > 2 else thirds(known)
        centres = [math.sqrt(_position(part.low) * _position(part.high)) for part in bins]
        axes.plot(centres, [part.mean_accuracy for part in bins], f"{mark}-", color=colour, lw=2, ms=7, label=name)
    span = [*frequencies, *map(int, others)]
    _frequency_axis(axes, min(span), max(span))


def accuracy_figure(classes: Sequence[ClassResult]) -> str:
    """How many classes have which accuracy: a histogram in steps of ten per cent."""
    from matplotlib.ticker import MaxNLocator  # slow to import

    with new_figure("accuracy", FULL_WIDTH, 2.8) as figure:
        axes = figure.subplots()
        counts = [0] * 10
        for result in classes:
            counts[min(9, int(result.rate.value * 10 + 1e-9))] += 1
        axes.bar([number / 10 + 0.05 for number in range(10)], counts, width=0.092, color=COLOURS[0])
        axes.set_xticks([number / 10 for number in range(11)])
        percent_axis(axes.xaxis)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("accuracy of the class")
        axes.set_ylabel("classes")
        return svg_of(figure)


def guidance_figure(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Accuracy over the coefficient t of classifier-free guidance: (t, accuracy) pairs of each form."""
    with new_figure("guidance", FULL_WIDTH, 3.1) as figure:
        axes = figure.subplots()
        for (name, points), colour, mark in zip(curves.items(), COLOURS, MARKERS, strict=False):
            axes.plot(*zip(*points, strict=True), f"{mark}-", color=colour, lw=2, ms=5, label=name)
        axes.axvline(1.0, color=GREY, lw=1, ls=":")
        percent_axis(axes.yaxis)
        axes.set_xlabel("coefficient t")
        axes.set_ylabel("accuracy")
        legend_above(figure, list(curves))
        return svg_of(figure)


def _position(frequency: int) -> float:
    """A frequency's position on the logarithmic axis, where 0 is drawn at `NEVER`."""
    return max(float(frequency), NEVER)


def _frequency_axis(axes: "Axes", low: int, high: int) -> None:
    axes.set_xscale("log")
    ticks = [10.0**power for power in range(8) if _position(low) / 2 <= 10.0**power <= 2 * _position(high)]
    if low == 0:
        ticks.insert(0, NEVER)
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_ylim(-0.04, 1.04)
    percent_axis(axes.yaxis)
    axes.set_xlabel("occurrences of the class in the training data")
    axes.set_ylabel("accuracy of the class")
