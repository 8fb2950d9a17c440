"""What always giving the most frequent answer earns on the test items: the least that an accuracy is compared with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from eval.metrics.accuracy import Rate
from eval.reports.formatting import percent
from eval.types import Prediction

MOST_FREQUENT = "always the most frequent"
CLASS_TASKS = ("open_world", "closed_world", "class_likelihood", "zero_shot", "trained_probe")


def most_frequent(predictions: Sequence[Prediction], protocol: Mapping[str, Any]) -> dict[str, Any] | None:
    """The most frequent class of the answered items, or of yes and no, with its `Rate`.

    None for items with options, for other tasks, for several labels an item, and where all items have one answer.
    """
    task = protocol.get("task")
    if protocol.get("labels") or task not in (*CLASS_TASKS, "yes_no") or any(p.choices for p in predictions):
        return None
    answers = [p.target if task == "yes_no" else p.label_name for p in predictions]
    counts = Counter(answer for answer in answers if answer)
    if len(counts) < 2 or counts.total() < len(answers):
        return None
    name = min(counts, key=lambda answer: (-counts[answer], answer))
    return {"name": name, **Rate(counts[name], len(answers)).to_json()}


def most_frequent_row(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The line of a report's numbers."""
    if not (found := report.get("most_frequent")):
        return []
    kind = "answer" if report["protocol"].get("task") == "yes_no" else "class"
    note = f"the most frequent {kind} of the test items: {found['count']:,} of {found['n']:,}; needs no model"
    return [(f"always {found['name']!r}", percent(found["value"]), note)]


def not_above_note(report: Mapping[str, Any]) -> str | None:
    """Says so where the accuracy is not above that of always giving the most frequent answer; None elsewhere."""
    found, value = report.get("most_frequent"), report["accuracy"]["value"]
    if not found or value is None or value > found["value"]:
        return None
    how = "below" if value < found["value"] else "no higher than"
    return f"{percent(value)} correct is {how} the {percent(found['value'])} of always answering {found['name']!r}"


def most_frequent_of_all(models: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """The most frequent answer of the evaluation `name`; None where the models answered different items."""
    found = [reports[name].get("most_frequent") for reports in models.values() if name in reports]
    return found[0] if found and all(other == found[0] for other in found) else None


def most_frequent_cells(found: Mapping[str, Any] | None) -> list[str]:
    """The cells of a comparison's row: accuracy and the answer that earns it; no difference to another model."""
    return ["", ""] if not found else [f"{percent(found['value'])} ({found['name']}, n = {found['n']:,})", ""]
