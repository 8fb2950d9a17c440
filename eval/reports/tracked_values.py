"""An evaluation as W&B takes it, from the content of report.json: numbers on a curve, and rows of tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.run_dir import step_of
from eval.metrics.accuracy import class_results

OUTCOMES = {True: "correct", False: "wrong", None: "no answer"}
CLASS_COLUMNS = ("class", "items", "correct", "wrong", "no_answer", "accuracy", "low", "high", "frequency")
CONFUSION_COLUMNS = ("class", "predicted_as", "count", "items")
MATRIX_COLUMNS = ("Actual", "Predicted", "nPredictions")
"""Of W&B's own chart of a confusion matrix."""
SAMPLE_COLUMNS = ("checkpoint", "id", "image", "question", "answer", "expected", "outcome", "scored", "reason")
PREFIX = "eval"


def metric(name: str, what: str) -> str:
    """The key of a number or table of evaluation `name`.

    >>> metric("open_world", "accuracy")
    'eval/open_world/accuracy'
    """
    return f"{PREFIX}/{name}/{what}"


def numbers(report: Mapping[str, Any]) -> dict[str, float | int]:
    """Key to number: the shares with their 95 % intervals, and the counts of items; a share of no items is left out."""
    found: dict[str, float | int] = {}
    for what in ("accuracy", "no_answer"):
        rate = report[what]
        if rate["value"] is not None:
            found |= {what: rate["value"], f"{what}_low": rate["low"], f"{what}_high": rate["high"]}
    found |= {what: report["items"][what] for what in ("answered", "failed", "missing")}
    return {metric(report["name"], what): value for what, value in found.items()}


def step_of_report(report: Mapping[str, Any], exported_step: int | None) -> int | None:
    """The training step of the evaluated weights: of a checkpoint its own, of the export `exported_step`."""
    return exported_step if report["label"] == "export" else step_of(report["label"])


def class_rows(report: Mapping[str, Any]) -> list[list[Any]]:
    """`CLASS_COLUMNS` of each class."""
    return [
        [
            *(result.name, result.rate.total, result.correct, result.wrong, result.no_answer),
            *(result.rate.value, *result.rate.interval, result.frequency),
        ]
        for result in class_results(report)
    ]


def confusion_rows(report: Mapping[str, Any]) -> list[list[Any]]:
    """`CONFUSION_COLUMNS` of the most frequent pairs."""
    return [[found["class"], found["predicted_as"], found["count"], found["n"]] for found in report["confusions"]]


def matrix_rows(report: Mapping[str, Any]) -> list[list[Any]]:
    """`MATRIX_COLUMNS` of each cell of the report's confusion matrix, which is bounded; none if it has no matrix."""
    matrix = report.get("confusion_matrix")
    if not matrix:
        return []
    return [
        [row, column, count]
        for row, counts in zip(matrix["rows"], matrix["counts"], strict=True)
        for column, count in zip(matrix["columns"], counts, strict=True)
    ]


def sample_rows(report: Mapping[str, Any], seen: Mapping[str, tuple[Any, str]]) -> list[list[Any]]:
    """`SAMPLE_COLUMNS` of the report's examples. `seen`: item id to (image, question); an item may be missing there."""
    return [
        [
            *(report["label"], example["id"], *seen.get(example["id"], (None, ""))),
            *(example["answer"], example["target"], OUTCOMES[example["value"]]),
            *(example["extracted"] or "", example["reason"]),
        ]
        for example in report["examples"]
    ]


def in_step_order(reports: Sequence[Mapping[str, Any]], exported_step: int | None) -> list[Mapping[str, Any]]:
    """The reports as a curve is drawn; one without a known step comes first."""
    return sorted(reports, key=lambda report: step_of_report(report, exported_step) or 0)
