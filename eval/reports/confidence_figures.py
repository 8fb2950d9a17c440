"""The figures of calibration and abstention, as SVG text for a page: narrow, so that a phone shows them whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.figures import COLOURS, GREY, MARKERS, new_figure, percent_axis, svg_of

WIDTH = 5.4  # inches


def reliability_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Accuracy over mean confidence of each bin with its 95 % interval; a calibrated model is on the diagonal.

    `curves` are the bins of report.json (`reliability`), one list a temperature.
    """
    with new_figure("reliability", WIDTH, 4.0) as figure:
        axes = figure.subplots()
        axes.plot((0, 1), (0, 1), color=GREY, lw=1, ls="--", label="calibrated")
        for (name, bins), colour, mark in zip(curves.items(), COLOURS, MARKERS, strict=False):
            confident = [part["confidence"] for part in bins]
            rates = [part["accuracy"] for part in bins]
            right = [rate["value"] for rate in rates]
            spans = [[r["value"] - r["low"] for r in rates], [r["high"] - r["value"] for r in rates]]
            axes.errorbar(confident, right, spans, fmt=f"{mark}-", color=colour, lw=1.6, ms=5, capsize=2, label=name)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        _percentages(axes, "mean confidence of the bin", "accuracy of the bin")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return svg_of(figure)


def coverage_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Accuracy of the items that are answered over their share, with the 95 % interval, one line a temperature."""
    with new_figure("coverage", WIDTH, 3.4) as figure:
        axes = figure.subplots()
        for (name, points), colour, mark in zip(curves.items(), COLOURS, MARKERS, strict=False):
            coverages, rates = [point["coverage"] for point in points], [point["accuracy"] for point in points]
            axes.fill_between(
                coverages, [r["low"] for r in rates], [r["high"] for r in rates], color=colour, alpha=0.15, lw=0
            )
            axes.plot(coverages, [r["value"] for r in rates], f"{mark}-", color=colour, lw=1.6, ms=4, label=name)
        axes.set_xlim(0, 1.02)
        _percentages(axes, "share of the items that are answered", "accuracy of these")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return svg_of(figure)


def _percentages(axes: Any, horizontal: str, vertical: str) -> None:
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
