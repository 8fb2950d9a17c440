"""Base and new classes next to each other: accuracy on both halves of a class list, and their harmonic mean.

    HM = 2 x base x new / (base + new)                                      as CoCoOp reports it (Zhou et al. 2022)

Two evaluations belong together if their sources differ in `class_part` alone and their protocols in the class list
alone.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from configs.data import SourceConfig
from data_prep.page import Block, Heading, Table, Text
from data_prep.readers.class_options import BASE, NEW
from eval.metrics.seeds import display_name
from eval.reports.formatting import interval, percent

MAY_DIFFER = ("class_part", "prompt")  # of the source's options; its stored question is not asked
OF_THE_HALF = ("model", "data", "classes", "classes_sha256", "hash", "frequency_count")
MEANING = (
    "Accuracy on the base classes and on the new ones, each among the candidates of its own protocol, and the harmonic "
    "mean of both. It has no interval of its own: see those of the two accuracies."
)
Reports = Mapping[str, Mapping[str, Any]]  # evaluation name to the content of its report.json


def class_half(source: SourceConfig | None, protocol: Mapping[str, Any]) -> dict[str, str] | None:
    """For report.json: the half of the classes that was evaluated, and `of`, equal for the other half's evaluation.

    None for an evaluation on all classes.
    """
    part = source.options.get("class_part") if source is not None else None
    if source is None or part is None:
        return None
    options = {name: value for name, value in source.options.items() if name not in MAY_DIFFER}
    settings = {name: value for name, value in protocol.items() if name not in OF_THE_HALF}
    text = json.dumps([source.reader, source.path, options, settings], sort_keys=True, default=str)
    return {"part": part, "of": hashlib.sha256(text.encode()).hexdigest()[:12]}


def harmonic_mean(base: float, new: float) -> float:
    """The harmonic mean of two accuracies; 0 where both are 0.

    >>> harmonic_mean(0.5, 1.0), harmonic_mean(0.0, 0.0)
    (0.6666666666666666, 0.0)
    """
    return 2 * base * new / (base + new) if base + new else 0.0


def half_values(models: Mapping[str, Reports]) -> list[dict[str, Any]]:
    """A row for each model and pair of evaluations: model, names of both, accuracies and `harmonic_mean`.

    The mean is None where one half was not evaluated, is incomplete, or was evaluated more than once.
    """
    rows = []
    for model, reports in models.items():
        pairs: dict[str, dict[str, list[str]]] = {}
        for name, report in reports.items():
            if (half := report.get("class_half")) is not None:
                pairs.setdefault(half["of"], {BASE: [], NEW: []})[half["part"]].append(name)
        rows += [_row(model, reports, pair) for pair in pairs.values()]
    return rows


def _row(model: str, reports: Reports, pair: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    values: dict[str, Any] = {"model": model, "harmonic_mean": None, "missing": []}
    for part in (BASE, NEW):
        names = pair[part]
        report = reports[names[0]] if len(names) == 1 else None
        values[part] = None if report is None else {"evaluation": names[0], "accuracy": report["accuracy"]}
        if report is None:
            values["missing"].append(f"{part} evaluated as {', '.join(names)}" if names else f"{part} not run")
        elif report["items"]["missing"] or report["accuracy"]["value"] is None:
            values["missing"].append(f"{names[0]} incomplete")
    if not values["missing"]:
        values["harmonic_mean"] = harmonic_mean(*(values[part]["accuracy"]["value"] for part in (BASE, NEW)))
    return values


def half_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The table of `half_values`; nothing where no evaluation has half of the classes."""
    if not rows:
        return []
    cells = [
        [
            display_name(row["model"]),
            ", ".join(row[part]["evaluation"] for part in (BASE, NEW) if row[part]),
            *(_accuracy(row[part]) for part in (BASE, NEW)),
            f"n/a ({'; '.join(row['missing'])})" if row["missing"] else percent(row["harmonic_mean"]),
        ]
        for row in rows
    ]
    headers = ("model", "evaluations", "base classes", "new classes", "harmonic mean")
    return [Heading("Base and new classes"), Table(headers, cells, numeric=frozenset({2, 3, 4})), Text(MEANING)]


def _accuracy(half: Mapping[str, Any] | None) -> str:
    if half is None or half["accuracy"]["value"] is None:
        return "not run"
    accuracy = half["accuracy"]
    return f"{percent(accuracy['value'])} ({interval(accuracy)}, n = {accuracy['n']:,})"
