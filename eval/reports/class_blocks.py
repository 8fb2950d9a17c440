"""The classes of a report: accuracy of each as bars, and which are taken for which as a heat map."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.page import Block, Figure, Folded, Heading, Table
from data_prep.page_charts import LONG_BARS, Bar, Bars, HeatMap
from eval.metrics.accuracy import ClassResult, class_results
from eval.metrics.confusion_matrix import LISTED
from eval.reports.figures import accuracy_figure
from eval.reports.formatting import interval, percent


def class_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Bars with intervals, the worst class first; a histogram where there are many; all numbers as a folded table."""
    results = sorted(class_results(report), key=lambda c: (c.rate.value, c.name))
    if not results:
        return []
    bars = [_bar(result) for result in results]
    caption = "Correct items of each class with the 95 % interval, the worst class first."
    many = [Figure(accuracy_figure(results), f"{len(results):,} classes by their accuracy.")]
    return [
        Heading("Classes, the worst first"),
        *(many if len(results) > LONG_BARS else []),
        Bars(bars, caption),
        Folded(f"All numbers of the {len(results):,} classes", [_table(results)]),
    ]


def _bar(result: ClassResult) -> Bar:
    rate = result.rate.to_json()
    text = f"{percent(rate['value'])}, {result.correct:,} of {result.rate.total:,}"
    return Bar(result.name, rate["value"], text, rate["low"], rate["high"])


def _table(results: Sequence[ClassResult]) -> Table:
    known = any(result.frequency is not None for result in results)
    headers = ["class", "correct", "n", "accuracy", "95 % interval", "wrong", "no answer"]
    rows = []
    for result in results:
        numbers = [f"{result.correct:,}", f"{result.rate.total:,}", percent(result.rate.value)]
        others = [interval(result.rate.to_json()), f"{result.wrong:,}", f"{result.no_answer:,}"]
        frequency = "unknown" if result.frequency is None else f"{result.frequency:,}"
        rows.append([result.name, *numbers, *others, *([frequency] if known else [])])
    headers += ["frequency"] if known else []
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))))


def confusion_blocks(report: Mapping[str, Any]) -> list[Block]:
    """The heat map, and the most frequent pairs as a table."""
    matrix = report.get("confusion_matrix")
    blocks: list[Block] = [_heat_map(matrix)] if matrix and len(matrix["columns"]) > 1 else []
    rows = [
        [
            pair["class"],
            pair["predicted_as"],
            *(f"{pair[key]:,}" for key in ("count", "n", "reverse_count", "reverse_n")),
        ]
        for pair in report["confusions"]
    ]
    if rows:
        headers = ("class", "predicted as", "count", "n", "reverse count", "n")
        table = Table(headers, rows, numeric=frozenset(range(2, 6)))
        blocks.append(Folded(f"The {len(rows)} most frequent confusions", [table]))
    return [Heading("Confusions"), *blocks] if blocks else []


def _heat_map(matrix: Mapping[str, Any]) -> HeatMap:
    rows, total = matrix["rows"], matrix["classes"]
    caption = "A cell's colour is its share of the row's items; green is correct."
    if len(rows) < total:
        caption += (
            f" The {len(rows)} classes of the most frequent confusions, of {total:,}; other classes that are answered "
            "are counted as another answer."
        )
    if total > LISTED:
        caption += " Ordered by average-linkage clustering, so that classes that are confused are near each other."
    counts, totals = matrix["counts"], matrix["totals"]
    return HeatMap(rows, matrix["columns"], counts, "the right answer", "the model's answer", caption, totals)
