"""The page of nearest neighbours: accuracy at every position, k and vote, next to that of the linear probe."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.atomic import write_json
from data_prep.page import Block, Folded, Heading, Page, Table, Text
from data_prep.page_charts import Bar, dots
from data_prep.run_index import write_page
from eval.probes.accuracy import doubts
from eval.probes.knn import described
from eval.reports.formatting import interval, percent, protocol_tag


def write_knn(folder: EvalDir, result: Mapping[str, Any]) -> None:
    """Write knn.json and knn.html into `folder`."""
    folder.root.mkdir(parents=True, exist_ok=True)
    write_json(folder.knn("json"), result)
    write_page(folder.knn("html"), knn_page(result, _probe(folder)))


def knn_page(result: Mapping[str, Any], probe: Mapping[str, Any] | None) -> Page:
    """The page; `probe` is the result of the linear probes on the same states, None without."""
    rows = [*_neighbours(result), *_linear(result, probe)]
    bars = [
        Bar(f"{position}, {how}", rate["value"], _text(rate), rate["low"], rate["high"], colour)
        for position, how, rate, colour in rows
    ]
    table = [
        [position, how, percent(rate["value"]), interval(rate), f"{rate['n']:,}"] for position, how, rate, _ in rows
    ]
    headers = ("position", "how", "accuracy", "95 % interval", "n")
    blocks: list[Block] = [
        Text(f"{result['model']} ({result['label']}), evaluated on {result['source']}: {described(result)}."),
        *(Text(line, warning=True) for line in doubts(result)),
        Heading("Accuracy by position and vote"),
        dots(bars, "Accuracy with its 95 % interval."),
        Folded("All numbers", [Table(headers, table, numeric=frozenset({2, 3, 4}))]),
        Text(
            "Every k is reported and none is selected: the best of several on these items would be too high. Only "
            f"classification can be done like this, not other tasks (the paper's C.5). Protocol {protocol_tag(result)}."
        ),
    ]
    if any(row["position"] == "-1" for row in result["rows"]):
        blocks.append(Text("A position is a token of the question: -1 is the last one, mean the mean of all."))
    return Page(f"{result['name']}: nearest neighbours", blocks)


def _text(rate: Mapping[str, Any]) -> str:
    return f"{percent(rate['value'])}, n = {rate['n']:,}"


Row = tuple[str, str, Mapping[str, Any], int]
"""Position, method, rate and colour."""


def _neighbours(result: Mapping[str, Any]) -> Iterator[Row]:
    for row in result["rows"]:
        yield row["position"], f"k = {row['k']}, {row['vote']}", row["accuracy"], int(row["vote"] == "weighted")


def _linear(result: Mapping[str, Any], probe: Mapping[str, Any] | None) -> Iterator[Row]:
    """The linear heads on the same items of the same training source."""
    if probe is None or any(probe[key] != result[key] for key in ("source", "train_source", "label", "model")):
        return
    positions = {row["position"] for row in result["rows"]}
    for name, row in probe["token_positions"].items():
        if name in positions:
            yield name, f"linear probe, {probe['chosen']}", row["accuracy"], 2


def _probe(folder: EvalDir) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = json.loads(folder.probe.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return None
