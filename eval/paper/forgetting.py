"""The forgetting table (the paper's Table 13): a fine-tuned model and its base, side by side on general abilities.

    python -m eval.reproduce --model runs/imagenet_llava_mix --datasets forgetting

A row a data set: VQA accuracy (TextVQA), F1 score (POPE) or mean grade (MM-Vet) of both, and their difference over the
same questions with a bootstrap interval over images. A data set that is not there, or an answer that is not graded, is
named in its row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.eval_dir import EvalDir, ResultsDir
from data_prep.page import Page, Table, Text
from data_prep.page_cards import Link
from data_prep.page_charts import Bar, difference_dots
from data_prep.run_index import read_result, write_result
from eval.graders.answers import stored_answers
from eval.graders.store import read_grades
from eval.metrics.f1_difference import f1_difference
from eval.metrics.grouped import ItemPoints, compare_points
from eval.metrics.outcomes import read_points, read_scored
from eval.paper.execute import Outcome
from eval.paper.plan import Planned
from eval.paper.published import paper_numbers
from eval.reports.formatting import interval, percent, points
from eval.reports.grade_blocks import grading_warnings
from eval.runner.evaluation_record import read_evaluation

GRADER = "mm_vet"
NAMES = ("base", "fine-tuned")


@dataclass(frozen=True, slots=True)
class Group:
    """Data sets that are evaluated together, with the protocol that they are published under."""

    datasets: tuple[str, ...]
    protocol: str


GROUPS: Mapping[str, Group] = {
    "forgetting": Group(("textvqa", "pope_popular", "pope_adversarial", "mm_vet"), "llava_benchmarks"),
    "demo_forgetting": Group(
        ("demo_short_answers", "demo_existence_popular", "demo_existence_adversarial", "demo_open_answers"), "paper"
    ),
}
MEASURES = {"vqa": ("accuracy", "VQA accuracy"), "yes_no": ("f1", "F1 score"), "graded": (GRADER, "mean grade")}
"""Task to the number of a report that the table has, and what it is called."""
PUBLISHED = {
    "textvqa": "TextVQA",
    "pope_popular": "POPE popular",
    "pope_adversarial": "POPE adversarial",
    "mm_vet": "MM-Vet",
}
"""Data set to its name in the rows table13/ of numbers.json."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model's row of a data set: its plan and its outcome."""

    planned: Planned
    outcome: Outcome

    @property
    def folder(self) -> EvalDir:
        """The folder of its report."""
        return EvalDir(Path(self.outcome.folder or ""))

    @property
    def task(self) -> str:
        """Its task."""
        return self.planned.config.protocol.task


def forgetting(names: tuple[str, str], pairs: Sequence[tuple[Evaluated, Evaluated]]) -> dict[str, Any]:
    """The content of forgetting.json; `pairs` are (base, fine-tuned) of each data set, `names` what both are called."""
    return {"base": names[0], "finetuned": names[1], "rows": [_row(base, tuned) for base, tuned in pairs]}


def _row(base: Evaluated, tuned: Evaluated) -> dict[str, Any]:
    measure, name = MEASURES[base.task]
    reports = [_report(one) for one in (base, tuned)]
    rates = [_number(report, measure) for report in reports]
    reasons = [_reason(one, rate) for one, rate in zip((base, tuned), rates, strict=True)]
    row: dict[str, Any] = {
        "dataset": base.planned.dataset,
        "measure": name,
        "base": rates[0],
        "finetuned": rates[1],
        "reports": [
            None if report is None else str(one.folder.report("html"))
            for one, report in zip((base, tuned), reports, strict=True)
        ],
        "paper": _paper(base.planned.dataset),
        "difference": None,
        "reason": "; ".join(dict.fromkeys(filter(None, reasons))) or None,
        "doubts": [
            f"{which}: {doubt}" for which, report in zip(NAMES, reports, strict=True) for doubt in _doubts(report)
        ],
    }
    if row["reason"] is None and base.task == "graded":
        row["reason"] = _other_grading(reports)
    if row["reason"] is None:
        try:
            row["difference"] = _difference(base, tuned)
        except UserError as error:
            row["reason"] = str(error)
    if row["difference"] and (left := row["difference"]["left_out"]):
        row["doubts"].append(f"{left:,} questions have a number of one of the two models alone; no difference has them")
    return row


def _report(one: Evaluated) -> dict[str, Any] | None:
    """The content of a report; None without one."""
    if one.outcome.reason is not None or not one.folder.report("json").is_file():
        return None
    return read_result(one.folder.report("json"))


def _number(report: Mapping[str, Any] | None, measure: str) -> dict[str, Any] | None:
    """The rate of a report; None without one."""
    if report is None:
        return None
    rate = {"accuracy": report["accuracy"], **report["numbers"]}.get(measure)
    return None if rate is None or rate["value"] is None else dict(rate)


def _doubts(report: Mapping[str, Any] | None) -> list[str]:
    """What a model's number leaves out: questions without an answer, answers without a grade."""
    if report is None:
        return []
    counts = [f"{report['items'][key]:,} {key}" for key in ("failed", "missing") if report["items"][key]]
    found = [f"{' and '.join(counts)} questions are not in its number"] if counts else []
    return found + [text for entry in _grading(report) for text in grading_warnings(entry)]


def _grading(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entry of the table's grader; empty without one."""
    return [entry for entry in report.get("grades") or () if entry["grader"] == GRADER]


def _other_grading(reports: Sequence[Mapping[str, Any] | None]) -> str | None:
    """Why two mean grades are not compared: the judge, its prompt or how it was asked differs."""
    base, tuned = ([entry["settings"] for entry in _grading(report)] if report else [] for report in reports)
    changed = sorted({key for one, other in zip(base, tuned, strict=False) for key in {*one, *other}
                      if one.get(key) != other.get(key)})  # fmt: skip
    if not changed:
        return None
    return f"the two models were graded with different settings ({', '.join(changed)}); grade both alike"


def _reason(one: Evaluated, rate: Mapping[str, Any] | None) -> str | None:
    """Why there is no number."""
    if rate is not None:
        return None
    if one.outcome.reason is not None:
        return one.outcome.reason
    return one.outcome.note or "no number"


def _paper(dataset: str) -> list[float | None] | None:
    """The paper's numbers before and after; None for a data set that Table 13 does not have."""
    if dataset not in PUBLISHED:
        return None
    known, name = paper_numbers(), PUBLISHED[dataset]
    rows = ("before/LLaVA1.5-7B", "after/LLaVA1.5-7B finetuned on ImageNet+LLaVA")
    return [known[f"table13/{row}/{name}"].value for row in rows]


def _difference(base: Evaluated, tuned: Evaluated) -> dict[str, Any]:
    """Fine-tuned less base over the same questions. Raises as `compare_points`."""
    if base.task == "yes_no":
        return f1_difference(*(read_scored(one.folder)[1] for one in (base, tuned)))
    read = _grades if base.task == "graded" else lambda one: read_points(one.folder)
    return compare_points(read(base), read(tuned))


def _grades(one: Evaluated) -> dict[str, ItemPoints]:
    """The stored grades by item."""
    evaluation = read_evaluation(one.folder)
    assert evaluation is not None
    answers = stored_answers(one.folder, evaluation, one.planned.config)
    grades = read_grades(one.folder, GRADER, answers).grades
    groups = {answer.id: answer.prediction.group for answer in answers}
    return {item: ItemPoints(grade.score, groups[item]) for item, grade in grades.items() if grade.score is not None}


def forgetting_page(found: Mapping[str, Any], folder: Path | None = None) -> Page:
    """The table, with links from a page in `folder` to the reports where it is given, and what is missing."""
    headers = ("data set", "number", "base", "fine-tuned", "difference", "n", "images", "paper")
    rows: list[list[str | Link]] = []
    missing, bars = [], []
    for row in found["rows"]:
        gap = row["difference"] or {"difference": None, "low": None, "high": None, "items": 0, "groups": 0}
        within = "" if gap["low"] is None else f" ({points(gap['low'])} to {points(gap['high'])})"
        rates = zip((row["base"], row["finetuned"]), row["reports"], strict=True)
        numbers = [_cell(rate, page, folder, row["measure"]) for rate, page in rates]
        if row["difference"]:
            name, value = f"{row['dataset']}, {row['measure']}", f"{points(gap['difference'])}, n = {gap['items']:,}"
            bars.append(Bar(name, gap["difference"], value, gap["low"], gap["high"]))
        counts = [f"{gap[key]:,}" if gap[key] else "" for key in ("items", "groups")]
        difference = points(gap["difference"]) + within
        rows.append([row["dataset"], row["measure"], *numbers, difference, *counts, _published(row["paper"])])
        missing += [f"{row['dataset']}: {row['reason']}"] if row["reason"] else []
    text = (
        f"Base: {found['base']}. Fine-tuned: {found['finetuned']}. Numbers in per cent; differences in points, "
        "fine-tuned less base over the same n questions. All 95 % intervals: bootstrap over images. The lower end of a "
        "difference's interval is the largest loss that these questions do not rule out."
    )
    chart = [difference_dots(bars, "Differences in points with their 95 % intervals.")] if bars else []
    notes = [Text(f"Missing: {note}", warning=True) for note in missing]
    notes += [Text(f"{row['dataset']}, {doubt}", warning=True) for row in found["rows"] for doubt in row["doubts"]]
    return Page("Forgetting: general abilities before and after fine-tuning", [
        Text(text), *notes, *chart, Table(headers, rows, numeric=frozenset(range(2, 8))),
    ])  # fmt: skip


def _cell(rate: Mapping[str, Any] | None, page: str | None, folder: Path | None, measure: str) -> str | Link:
    """A number with its interval, or why there is none, as a link to its report where that is there."""
    if rate is None and page is None:
        return "not run"
    without = "not graded" if measure == MEASURES["graded"][1] else "no number"
    text = without if rate is None else f"{percent(rate['value'])} ({interval(rate)})"
    return Link.to(text, Path(page), folder) if page and folder and Path(page).is_file() else text


def _published(values: Sequence[float | None] | None) -> str:
    return "" if values is None else " → ".join(f"{100 * value:.1f}" for value in values if value is not None)


def write_forgetting(output: Path, name: str, found: Mapping[str, Any]) -> Path:
    """Write forgetting-NAME.json, .md and .html into `output`; returns the last. `name` has protocol and model."""
    return write_result(partial(ResultsDir(output).forgetting, name), found, forgetting_page(found, output))
