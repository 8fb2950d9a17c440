"""The part of a report about stored class scores: top-5 accuracy, calibration, accuracy under abstention."""

from collections.abc import Mapping
from typing import Any

from data_prep.page import Block, Figure, Folded, Heading, Numbers, Table, Text
from eval.reports.confidence_figures import coverage_figure, reliability_figure
from eval.reports.formatting import interval, percent

BINNING_NAMES = {"equal_width": "15 bins of equal width", "equal_size": "15 bins of equal size"}


def class_score_blocks(report: Mapping[str, Any]) -> list[Block]:
    """Nothing for a task whose answers hold no class scores."""
    found = report.get("class_scores")
    if not found:
        return []
    parts = _parts(found)
    blocks: list[Block] = [Heading("Class scores: top-5, calibration, abstention"), Text(_about(found))]
    numbers = [*_top(found), *(number for name, part in parts.items() for number in _numbers(name, part))]
    blocks += [Numbers(numbers)] if numbers else []
    blocks += [Text(note) for note in _notes(found)]
    if not parts:
        return blocks
    tables = [_reliability_table(name, part) for name, part in parts.items()]
    curves = [_coverage_table(name, part) for name, part in parts.items()]
    return [
        *blocks,
        Figure(
            reliability_figure({name: part["reliability"] for name, part in parts.items()}),
            "Reliability: a bin above the diagonal is more often right than the model's confidence says. 15 bins of "
            "equal width, with 95 % intervals; bins without items are left out.",
        ),
        Figure(
            coverage_figure({name: part["coverage"] for name, part in parts.items()}),
            "Abstention: the accuracy if only the most confident items are answered, with 95 % intervals.",
        ),
        Folded("All numbers of calibration and abstention", [*tables, *curves]),
    ]


def _parts(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The confidences by each temperature that there is, by a name for the reader."""
    parts: dict[str, Mapping[str, Any]] = {}
    if found["own"]:
        parts[f"temperature {found['temperature']:.4g}"] = found["own"]
    if "n" in found["fitted"]:
        parts[f"temperature {found['fitted']['temperature']:.4g}, fitted"] = found["fitted"]
    return parts


def _about(found: Mapping[str, Any]) -> str:
    among = f"all {found['classes']:,} classes"
    if found["candidates"] < found["classes"]:
        among = (
            f"its {found['candidates']:,} candidates of {found['classes']:,} classes: these numbers are not comparable "
            "with those among all classes"
        )
    return (
        f"From the stored scores of {found['n']:,} items ({found['bytes_per_item']:,} bytes each); the model was not "
        f"run again. Each item is scored among {among}. Its confidence is the largest probability of a softmax "
        "over the scores of its candidates."
    )


def _notes(found: Mapping[str, Any]) -> list[str]:
    fitted, notes = found["fitted"], []
    if found["own"]:
        notes.append(f"Temperature {found['temperature']:.4g}: {found['temperature_is']}.")
    else:
        notes.append(
            f"Without a fitted temperature there is no confidence (temperature: {found['temperature_is']}); "
            "protocol.temperature sets one."
        )
    if "n" in fitted:
        notes.append(
            f"Temperature {fitted['temperature']:.4g} was fitted on {fitted['fitted_on']:,} items, drawn by their ids; "
            f"its numbers are those of the other {fitted['n']:,}."
        )
    else:
        notes.append(f"No temperature was fitted: {fitted['reason']}.")
    notes.append(
        f"The calibration error (ECE, {BINNING_NAMES['equal_width']}) depends on its bins and on the number of items: "
        "a perfectly calibrated model has the error that is given below it. Its interval is corrected for that, so it "
        "may lie below the value. AURC is the error rate, averaged over all shares of answered items; below it is the "
        "best possible one at this accuracy."
    )
    return notes


def _top(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    top = found["top"]
    if top is None:
        return []
    note = f"95 % interval {interval(top)}, n = {top['n']:,}; {top['k']} of {found['candidates']:,} candidates"
    return [(f"top-{top['k']} accuracy", percent(top["value"]), note)]


def _numbers(name: str, part: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    error, area, number = part["calibration_error"]["equal_width"], part["aurc"], f"n = {part['n']:,}"
    floor = f"{percent(error['if_calibrated'])} if calibrated"
    return [
        (
            f"mean confidence, {name}",
            percent(part["mean_confidence"]),
            f"accuracy {percent(part['accuracy']['value'])}, {number}",
        ),
        (
            f"calibration error (ECE), {name}",
            percent(error["value"]),
            f"95 % interval {interval(error)}, {number}; {floor}",
        ),
        (
            f"risk over coverage (AURC), {name}",
            percent(area["value"]),
            f"95 % interval {interval(area)}, {number}; {percent(area['best'])} at best",
        ),
    ]


def _reliability_table(name: str, part: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{percent(bin_['from'])} to {percent(bin_['to'])}",
            percent(bin_["confidence"]),
            percent(bin_["accuracy"]["value"]),
            interval(bin_["accuracy"]),
            f"{bin_['accuracy']['n']:,}",
        ]
        for bin_ in part["reliability"]
    ]
    for binning, error in part["calibration_error"].items():
        floor = f"{percent(error['if_calibrated'])} if calibrated"
        value = percent(error["value"])
        rows.append([f"ECE, {BINNING_NAMES[binning]}", floor, value, interval(error), f"{error['n']:,}"])
    headers = (f"confidence ({name})", "mean confidence", "accuracy", "95 % interval", "n")
    return Table(headers, rows, numeric=frozenset(range(1, 5)))


def _coverage_table(name: str, part: Mapping[str, Any]) -> Table:
    rows = [
        [
            percent(point["coverage"]),
            percent(point["threshold"]),
            percent(point["accuracy"]["value"]),
            interval(point["accuracy"]),
            f"{point['accuracy']['n']:,}",
        ]
        for point in part["coverage"]
    ]
    headers = (f"answered ({name})", "least confidence", "accuracy", "95 % interval", "n")
    return Table(headers, rows, numeric=frozenset(range(1, 5)))
