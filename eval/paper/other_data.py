"""Evaluations as Tables 4, 5 and 13 have them, on data or models that the paper does not have, such as the demo's.

The scoreboard shows them below these tables, with what a table without a number of ours needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.page import Block, Table, Text
from eval.paper.finetuned_rows import GENERAL_TASKS
from eval.paper.forgetting import MEASURES
from eval.reports.formatting import interval, main_number, percent, protocol_tag
from eval.runner.as_trained import training_differences

NEEDS = {
    "table4": "No run trained on captions of the paper's data sets was found. python -m data_prep.caption --config "
    "configs/captions/flowers102.yaml has them written by a model behind an API, and configs/flowers102_captions.yaml "
    "trains on them; the same for StanfordCars and Caltech101. The demo's need no network "
    "(configs/captions/demo.yaml).",
    "table5": "No model of the paper was asked ImageWikiQA. Its questions and ImageNet's validation images are needed: "
    "python -m data_prep.build --config configs/eval/reproduce/imagewikiqa.yaml, then python -m eval.reproduce --model "
    "MODEL --datasets imagewikiqa. The demo's need no download (configs/wikiqa/demo.yaml, "
    "configs/eval/demo_wikiqa.yaml).",
    "table13": "No model of the paper was evaluated on TextVQA, POPE or MM-Vet. Their files are needed (configs/eval/"
    "textvqa.yaml, pope_popular.yaml, pope_adversarial.yaml, mm_vet.yaml), then python -m eval.reproduce --model RUN "
    "--datasets forgetting. The demo's need no download (--datasets demo_forgetting).",
}
"""What a table lacks while none of its rows has a number of ours; of Table 4 its rows of captions."""
PREFIXES = {"table4": "table4/captions/"}
MULTIPLE_CHOICE = "multiple_choice"


@dataclass(frozen=True, slots=True)
class OtherData:
    """The main number of an evaluation that belongs to a `table` by its kind, and to none of the paper's rows."""

    table: str
    cells: tuple[str, ...]


def other_data(report: Mapping[str, Any], rows: Sequence[str]) -> list[OtherData]:
    """The entry of a report; none if it is of another kind, has no number yet, or `rows` of its table compare it.

    Table 4: a model asked for a caption. Table 5: multiple choice. Table 13: short answers, questions
    of yes or no (F1 score) and graded free answers.
    """
    table = _table(report) if "accuracy" in report else None
    if table is None or any(row.startswith(table) for row in rows):
        return []
    task = report["protocol"].get("task")
    key, name = MEASURES.get(str(task), ("accuracy", "accuracy"))
    rate = (report.get("numbers") or {}).get(key) or main_number(report)
    if not rate["n"]:
        return []
    number, n = f"{percent(rate['value'])} {name}", f"{rate['n']:,}"
    model = f"{report['model']} {report['label']}"
    tag = protocol_tag(report) + "".join(f", not as trained: {text}" for text in training_differences(report))
    return [OtherData(table, (str(report["name"]), model, number, interval(rate), n, tag, report["file"]))]


def _table(report: Mapping[str, Any]) -> str | None:
    protocol = report["protocol"]
    task = protocol.get("task")
    if task == MULTIPLE_CHOICE:
        return "table5"
    if task in GENERAL_TASKS:
        return "table13"
    return "table4" if task == "open_world" and protocol.get("prompt") == "caption" else None


def below_table(table: str, rows: Mapping[str, bool], found: list[OtherData]) -> list[Block]:
    """What a table needs if none of its `rows` (by name: was it run?) has a number, and such evaluations."""
    if table not in NEEDS:
        return []
    run = any(done for row, done in rows.items() if row.startswith(PREFIXES.get(table, table)))
    blocks: list[Block] = [] if run else [Text(NEEDS[table])]
    cells = [entry.cells for entry in found if entry.table == table]
    if cells:
        headers = ("evaluation", "model", "number", "95 % interval", "n", "protocol", "folder")
        blocks += [Text("Run on other data:"), Table(headers, cells, numeric=frozenset({2, 3, 4}), code=frozenset({6}))]
    return blocks


def other_data_run(table: str, found: list[OtherData]) -> str:
    """For the heading of a table: how many evaluations of its kind were run on other data; empty if none."""
    count = sum(entry.table == table for entry in found)
    return f"; {count} run on other data" if count else ""
