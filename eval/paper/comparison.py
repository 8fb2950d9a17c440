"""Comparison of an evaluation's accuracy with the paper's number: the content of a report's `paper`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eval.metrics.accuracy import Rate
from eval.paper.published import paper_number, paper_numbers
from eval.paper.rows import own_row
from eval.reports.evaluation import Comparison


def comparison_with(paper_row: str | None) -> Comparison:
    """For `write_report`: the comparison with `paper_row` (a setting of the evaluation), if the row is the model's."""

    def compare(header: Mapping[str, Any], accuracy: Rate) -> dict[str, Any] | None:
        row = own_row(paper_row, header, paper_numbers())
        return None if row is None else _difference(row, accuracy)

    return compare


def _difference(row: str, accuracy: Rate) -> dict[str, Any]:
    number = paper_number(row)
    low, high = accuracy.interval
    if number.value is None:
        return {**asdict(number), "difference": None, "inside_interval": None}
    inside = low <= number.value <= high
    return {**asdict(number), "difference": accuracy.value - number.value, "inside_interval": inside}
