"""The accuracies of a run's checkpoints over its steps: read from their reports, written as JSON and as a page.

runs/NAME/eval/EVALUATION/step-00000500/report.json     what one checkpoint scored
                          accuracy.json, accuracy.html  all of them in the order of steps
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.eval_dir import EvalDir, ResultsDir
from configs.run_dir import RunDir, step_name
from data_prep.atomic import write_bytes
from data_prep.curve_figure import Curve, curve_figure
from data_prep.page import Block, Figure, Heading, Page, Table, Text
from data_prep.page_charts import Bar, dots
from data_prep.run_index import listed, write_page

Point = Mapping[str, Any]
"""`step`, the accuracy's `value`, `low`, `high`, `n`, and the numbers of `failed` and `missing` items."""


def read_points(run: RunDir, evaluation: str) -> list[Point]:
    """The accuracy of every checkpoint that has a report, by step; damaged and empty reports are left out."""
    found: list[Point] = []
    for step in run.evaluated_steps(evaluation):
        folder = EvalDir(run.evaluation(evaluation) / step_name(step))
        try:
            report = json.loads(folder.report("json").read_text(encoding="utf-8"))
            rate, items = report["accuracy"], report.get("items") or {}
            if rate["n"]:
                counts = {key: int(items.get(key) or 0) for key in ("failed", "missing")}
                found.append({"step": step, **{key: rate[key] for key in ("value", "low", "high", "n")}, **counts})
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def comparable(points: Sequence[Point]) -> list[Point]:
    """The points of complete evaluations of the same number of items: of the number that most points have."""
    whole = [point for point in points if not point["missing"]]
    counts = [point["n"] for point in whole]
    usual = max(dict.fromkeys(counts), key=counts.count, default=0)
    return [point for point in whole if point["n"] == usual]


def best_point(points: Sequence[Point]) -> Point | None:
    """The comparable point with the highest accuracy, the first of equal ones; None without."""
    return max(comparable(points), key=lambda point: float(point["value"]), default=None)


def write_curve(run: RunDir, evaluation: str, skipped: Mapping[int, str]) -> Path:
    """Write the curve of `evaluation`; `skipped` are steps without an accuracy, and why. Returns the page."""
    points, folder = read_points(run, evaluation), ResultsDir(run.evaluation(evaluation))
    folder.root.mkdir(parents=True, exist_ok=True)
    best = best_point(points)
    summary = "no checkpoint evaluated yet"
    if points and best:
        summary = f"step {points[-1]['step']:,}: {describe(points[-1])}; {_best_words(points, best)}"
    values = {
        "evaluation": evaluation,
        "summary": summary,
        "points": points,
        "best": best,
        "skipped": {str(step): why for step, why in skipped.items()},
    }
    write_bytes(folder.accuracy("json"), (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
    write_page(folder.accuracy("html"), _page(run, evaluation, points, skipped, summary))
    return folder.accuracy("html")


def _best_words(points: Sequence[Point], best: Point) -> str:
    """The best step, or how many are as good."""
    compared = comparable(points)
    equal = [f"{point['step']:,}" for point in compared if point["value"] == best["value"]]
    if len(equal) == 1:
        return f"best step {equal[0]}: {describe(best)}"
    if len(equal) == len(compared):
        return f"all {len(equal)} comparable steps are equally good"
    return f"best steps, equally good, {listed(equal)}: {describe(best)}"


def describe(point: Point) -> str:
    """An accuracy with its exact counts and 95 % interval.

    >>> describe({"value": 0.5, "low": 0.4, "high": 0.6, "n": 100, "failed": 0, "missing": 0})
    '50.0 % (40.0 to 60.0 %), n = 100'
    """
    text = f"{100 * point['value']:.1f} % ({100 * point['low']:.1f} to {100 * point['high']:.1f} %), n = {point['n']:,}"
    doubts = [f"{point[key]:,} {key}" for key in ("failed", "missing") if point[key]]
    return "; ".join([text, *doubts])


def _page(run: RunDir, evaluation: str, points: Sequence[Point], skipped: Mapping[int, str], summary: str) -> Page:
    blocks: list[Block] = [Text(f"{run.root.name}, evaluated as {evaluation}. {summary[:1].upper()}{summary[1:]}.")]
    if len(points) > len(comparable(points)):
        text = "Some checkpoints were evaluated on other numbers of items, or not completely: they are not comparable."
        blocks.append(Text(text, warning=True))
    if points:
        curve = Curve("accuracy", [(point["step"], 100 * point["value"]) for point in points], measured=True)
        bars = [Bar(f"step {p['step']:,}", p["value"], describe(p), p["low"], p["high"]) for p in points]
        blocks += [
            Figure(
                curve_figure([curve], [], "accuracy in per cent", logarithmic=False), "Accuracy of each checkpoint."
            ),
            dots(bars, "The same with 95 % intervals of the choice of items; all checkpoints get the same items."),
        ]
    if skipped:
        blocks += [Heading("Not evaluated"), Table(("step", "why"), [[f"{s:,}", why] for s, why in skipped.items()])]
    return Page(f"{run.root.name}: {evaluation} over the steps", blocks)
