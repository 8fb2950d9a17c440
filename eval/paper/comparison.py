"""Comparison of an evaluation's number with the paper's: the content of a report's `paper`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eval.paper.published import paper_number, paper_numbers
from eval.paper.rows import own_row
from eval.reports.evaluation import Comparison, Measured


def comparison_with(paper_row: str | None) -> Comparison:
    """For `write_report`: the comparison with `paper_row` (a setting of the evaluation), if the row is the model's."""

    def compare(header: Mapping[str, Any], measured: Measured) -> dict[str, Any] | None:
        row = own_row(paper_row, header, paper_numbers())
        return None if row is None else _difference(row, measured)

    return compare


def _difference(row: str, measured: Measured) -> dict[str, Any]:
    number = paper_number(row)
    ours = measured.get(number.measure) or {"value": None, "low": None, "high": None, "n": 0}
    compared = {**asdict(number), "ours": dict(ours), "difference": None, "inside_interval": None}
    if number.value is None or ours["value"] is None:
        return compared
    inside = ours["low"] <= number.value <= ours["high"]
    return compared | {"difference": ours["value"] - number.value, "inside_interval": inside}
