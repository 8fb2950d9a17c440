"""The paper's Figures 2 to 7, drawn from our results together with the points that the paper prints.

Hollow marks and dashed lines are the paper's, filled and solid ones ours; each model has its own mark and colour.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.curve_figure import readable_ticks
from data_prep.figures import (
    BLACK,
    COLOURS,
    FULL_WIDTH,
    GREY,
    MARKERS,
    legend_columns,
    legend_name,
    new_figure,
    percent_axis,
    svg_of,
)
from eval.metrics.accuracy import ClassResult
from eval.paper.loss_curves import LossCurve
from eval.reports.figures import draw_frequency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]  # a line of scoreboard.json
COUNTS = (2, 5, 20, 100)
PANELS = 2  # in a row, so that a phone shows them whole
DASHES = ("-", "--", "-.", ":")
SHADES = {
    mode: [COLOURS[number] for number in used] for mode, used in (("lora", (3, 1, 2, 4)), ("projector", (7, 0, 5)))
}


def candidates_figure(rows: Sequence[Row]) -> str:
    """Figure 2: accuracy over the number of candidate classes, a panel a dataset.

    `rows` are lines of the scoreboard named table9/candidates_K/MODEL/DATASET.
    """
    with new_figure("candidates", FULL_WIDTH, 6.0) as figure:
        panels, table = _panels(figure, rows)
        models = list(dict.fromkeys(model for _, model, _ in table))
        for dataset, axes in panels.items():
            for model, colour, mark in zip(models, COLOURS, MARKERS, strict=False):
                own = {count: table[count, model, dataset] for count in COUNTS if (count, model, dataset) in table}
                _line(axes, {k: row["paper"] for k, row in own.items()}, f"{mark}--", colour)
                _line(axes, {k: _value(row) for k, row in own.items()}, f"{mark}-", colour)
            axes.set_ylim(-0.04, 1.04)
            percent_axis(axes.yaxis)
        figure.supylabel("accuracy", fontsize=11)
        _legend(figure, dict(zip(models, COLOURS, strict=False)))
        return svg_of(figure)


def error_figure(rows: Sequence[Row]) -> str:
    """Figure 4: how many times CLIP's error LLaVA's is, over the number of candidates."""
    model, other = "LLaVA1.5-7B", "CLIP-L"
    with new_figure("errors", FULL_WIDTH, 5.4) as figure:
        panels, table = _panels(figure, rows)
        for dataset, axes in panels.items():
            pairs = {k: (table.get((k, model, dataset)), table.get((k, other, dataset))) for k in COUNTS}
            paper = {k: _ratio(a["paper"], b["paper"]) for k, (a, b) in pairs.items() if a and b}
            ours = {k: _ratio(_value(a), _value(b)) for k, (a, b) in pairs.items() if a and b}
            _line(axes, paper, "o--", COLOURS[0])
            _line(axes, ours, "o-", COLOURS[0])
            axes.set_yscale("log")
            axes.set_yticks((1, 10, 100), ("1", "10", "100"))
        figure.supylabel("times as many errors", fontsize=11)
        _legend(figure, {f"errors of {model} / errors of {other}": COLOURS[0]})
        return svg_of(figure)


def _panels(figure: "Figure", rows: Sequence[Row]) -> tuple[dict[str, "Axes"], dict[tuple[int, str, str], Row]]:
    """A panel a dataset, and the lines by (candidates, model, dataset)."""
    table: dict[tuple[int, str, str], Row] = {}
    for row in rows:
        _, experiment, model, dataset = str(row["row"]).split("/")
        table.setdefault((int(experiment.split("_")[1]), model, dataset), row)
    datasets = list(dict.fromkeys(dataset for _, _, dataset in table))
    panels = figure.subplots(-(-len(datasets) // PANELS), PANELS, sharey=True, squeeze=False).ravel()
    for axes in panels[len(datasets) :]:
        axes.set_visible(False)
    for axes, dataset in zip(panels, datasets, strict=False):
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(COUNTS, list(map(str, COUNTS)))
        axes.set_title(dataset, fontsize=11)
    figure.supxlabel("classes to choose from", fontsize=11)
    return dict(zip(datasets, panels, strict=False)), table


def _line(axes: "Axes", points: Mapping[int, float | None], style: str, colour: str) -> None:
    known = [(count, value) for count, value in points.items() if value is not None]
    if known:
        paper = "--" in style
        fill = "white" if paper else colour
        axes.plot(*zip(*known, strict=True), style, color=colour, mfc=fill, ms=6, lw=1 if paper else 2)


def _value(row: Row) -> float | None:
    ours: float | None = None if row["ours"] is None else row["ours"]["value"]
    return ours


def _ratio(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None or second == 1 else (1 - first) / (1 - second)


def _legend(figure: "Figure", lines: Mapping[str, str]) -> None:
    """Names with their colours (and, in that order, their marks), and whose numbers which style shows."""
    from matplotlib.lines import Line2D  # slow to import

    handles = [
        Line2D([], [], color=colour, marker=mark, lw=2, label=name)
        for (name, colour), mark in zip(lines.items(), MARKERS, strict=False)
    ]
    grey: dict[str, Any] = {"color": GREY, "marker": "o"}
    handles += [
        Line2D([], [], ls="--", lw=1, mfc="white", label="the paper", **grey),
        Line2D([], [], lw=2, label="ours", **grey),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns([*lines, "the paper"]), frameon=False)


def frequency_and_paper(models: Mapping[str, Sequence[ClassResult]], paper: Mapping[str, float | None]) -> str:
    """Figures 3 and 7: accuracy over class frequency of every model; the paper's two printed points as diamonds.

    `paper` holds `below_10` and `above_10000`, the accuracies that Section 3.3 prints, where it does.
    """
    with new_figure("paper-frequency", FULL_WIDTH, 4.4) as figure:
        axes = figure.subplots()
        printed = [(x, paper[key]) for key, x in (("below_10", 3.0), ("above_10000", 20_000.0)) if key in paper]
        draw_frequency(axes, models, [x for x, _ in printed])
        if printed:
            xs, ys = zip(*printed, strict=True)
            axes.plot(xs, ys, "D", color=BLACK, mfc="white", ms=9, label="paper, LLaVA1.5-7B")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return svg_of(figure)


def loss_figure(curves: Sequence[LossCurve]) -> str:
    """Figure 5: the loss of runs that train projector and LoRA (above), and of those that train the projector."""
    groups = {mode: [curve for curve in curves if curve.mode == mode] for mode in ("lora", "projector")}
    with new_figure("losses", FULL_WIDTH, 4.8 + 0.2 * len(curves)) as figure:
        panels = figure.subplots(2, 1, sharey=True)
        for axes, (mode, group) in zip(panels, groups.items(), strict=True):
            for number, curve in enumerate(group):
                shade = SHADES[mode][number % len(SHADES[mode])]
                style = DASHES[number % len(DASHES)]
                axes.plot(
                    *zip(*curve.points, strict=True), color=shade, ls=style, lw=1.2, label=legend_name(curve.run, 28)
                )
            title = {"lora": "projector and LoRA", "projector": "projector only"}[mode]
            axes.set_ylabel("loss")
            if names := axes.get_legend_handles_labels()[1]:
                columns, corner = legend_columns(names), (0.0, 1.0)
                axes.legend(
                    title=title, loc="lower left", bbox_to_anchor=corner, ncols=columns, alignment="left", frameon=False
                )
            else:
                axes.set_title(title, fontsize=11, loc="left")
                axes.set_xticks([])
                axes.text(0.5, 0.5, "no such run", ha="center", transform=axes.transAxes, color=GREY)
        values = [value for curve in curves for _, value in curve.points if math.isfinite(value) and value > 0]
        for axes, group in zip(panels, groups.values(), strict=True):
            if group:
                readable_ticks(axes, values, logarithmic=True)
        panels[-1].set_xlabel("optimizer step")
        return svg_of(figure)
