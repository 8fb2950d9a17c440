"""The graders of an evaluation as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from eval.reports.formatting import interval, percent
from eval.reports.grade_blocks import grading_warnings, score_text
from eval.reports.summary import result_line


def grade_lines(report: Mapping[str, Any]) -> list[str]:
    """The protocol's result, then a line for each grader."""
    lines = [result_line(report)]
    for entry in report["grades"]:
        lines.append(f"  grader {entry['grader']}: {', '.join(_parts(entry))}")
        lines += [f"  warning: {text}" for text in grading_warnings(entry)]
    return lines


def _parts(entry: Mapping[str, Any]) -> list[str]:
    rate, same = entry["accuracy"], entry["agreement"]
    n = f"n = {entry['items']['graded']:,}"
    parts = [f"{percent(rate['value'])} correct ({interval(rate)}, {n})"] if rate else [n]
    named = {**entry["outcomes"], **entry["flags"]}
    parts += [f"{percent(r['value'])} {name}" for name, r in named.items() if name != "right" and r["count"]]
    parts += [f"mean score {score_text(entry['mean_score'])}"] if entry["mean_score"] else []
    parts += [f"agrees with the protocol on {percent(same['rate']['value'])}"] if same else []
    return parts
