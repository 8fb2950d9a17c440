"""How graders agree with a person's labels, as numbers and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.eval_dir import ResultsDir
from configs.grading import GradingConfig
from data_prep.page import Block, Heading, Page, Table, Text
from data_prep.page_charts import Bar, dots
from data_prep.run_index import write_result
from eval.graders.labelled_answers import LabelledAnswer, texts_of
from eval.graders.llm_judge import LLMJudge
from eval.graders.scorer_grader import OUTCOME_OF
from eval.graders.types import RIGHT, Grade
from eval.metrics.kappa import agreement_of
from eval.reports.formatting import interval, percent
from eval.scorers.registry import find_scorer

RULES = ("contains", "word", "name", "exact")
NOT_RIGHT = "not right"
NO_GRADE = "It graded no answer."
Values = dict[str, Any]


def measure(labelled: Sequence[LabelledAnswer], grading: GradingConfig, output: Path, *, dry_run: bool) -> Values:
    """The agreement of each rule, and of the judge if `grading` names one, with the labels.

    A dry run prints what the judge may cost, and returns that in place of the agreement. Raises `ConfigError` for a dry
    run without a judge, and as `LLMJudge`.
    """
    found: Values = {"labels": len(labelled), "kinds": _kinds(labelled), "graders": {}}
    for rule in RULES:
        scorer = find_scorer(rule, "rule")
        outcomes = [OUTCOME_OF[scorer(a.answer.text, a.answer.reference).value] for a in labelled]
        found["graders"][rule] = _entry(labelled, outcomes)
    if grading.judge is None:
        if dry_run:
            raise ConfigError(
                "--dry-run says what a judge may cost, and none is named; add --set grading.judge=api:NAME"
            )
        return found
    judge, replies = LLMJudge(grading), ResultsDir(output).judge_replies
    if dry_run:
        spending = judge.preview(texts_of(labelled), replies)
        return {
            "labels": len(labelled),
            "judge": grading.judge,
            "spending": None if spending is None else asdict(spending),
        }
    output.mkdir(parents=True, exist_ok=True)
    grades = {answer.id: grade for answer, grade in judge.grade_with_replies(texts_of(labelled), replies)}
    graded = [(a, g) for a in labelled if isinstance(g := grades.get(a.answer.id), Grade)]
    entry = _entry([a for a, _ in graded], [str(g.outcome) for _, g in graded])
    entry["outcomes"] = agreement_of([a.label for a, _ in graded], [str(g.outcome) for _, g in graded])
    entry["ungraded"] = len(labelled) - len(graded)
    entry["differing"] = [
        {"target": a.answer.reference.target, "answer": a.answer.text, "label": a.label, "outcome": g.outcome}
        for a, g in graded
        if a.label != g.outcome
    ]
    found["graders"]["llm_judge"] = entry | {"about": judge.about, "settings": dict(judge.settings)}
    return found


def _entry(labelled: Sequence[LabelledAnswer], outcomes: Sequence[str]) -> Values:
    """Agreement on right or not, and the share of each kind on which both agree."""
    labels = [_right(a.label) for a in labelled]
    said = [_right(outcome) for outcome in outcomes]
    kinds: dict[str, list[bool]] = {}
    for a, label, one in zip(labelled, labels, said, strict=True):
        kinds.setdefault(a.kind, []).append(label == one)
    shares = {kind: [sum(same), len(same)] for kind, same in kinds.items()}
    return {"right": agreement_of(labels, said), "kinds": shares}


def _right(outcome: str) -> str:
    return RIGHT if outcome == RIGHT else NOT_RIGHT


def _kinds(labelled: Sequence[LabelledAnswer]) -> list[str]:
    return list(dict.fromkeys(a.kind for a in labelled))


def agreement_page(found: Mapping[str, Any]) -> Page:
    """Agreement and kappa of each grader, by kind of answer, and where the judge differs."""
    headers = ("grader", "agreement", "95 % interval", "kappa", "95 % interval", "n")
    rows = []
    for name, entry in found["graders"].items():
        rows.append([name, *_cells(entry["right"])])
        if "outcomes" in entry:
            rows.append([f"{name}, all outcomes", *_cells(entry["outcomes"])])
    bars = [_bar(name, entry["right"]) for name, entry in found["graders"].items()]
    kinds = [[name, *_shares(entry, found["kinds"])] for name, entry in found["graders"].items()]
    blocks: list[Block] = [
        Text(
            f"{found['labels']} answers labelled by hand. Agreement: the share on which grader and label both say "
            "right, or both do not; kappa is the agreement beyond chance (bootstrap interval over answers)."
        ),
        dots(bars, "Agreement with its 95 % interval."),
        Table(headers, rows, numeric=frozenset(range(1, 6))),
        Heading("By kind of answer: on how many both agree"),
        Table(("grader", *found["kinds"]), kinds, numeric=frozenset(range(1, 1 + len(found["kinds"])))),
    ]
    if (judge := found["graders"].get("llm_judge")) is not None:
        blocks += _judge_blocks(judge)
    return Page("Agreement of graders with labels", blocks)


def _judge_blocks(judge: Mapping[str, Any]) -> list[Block]:
    rows = [[d["label"], d["outcome"], d["target"], d["answer"]] for d in judge["differing"]]
    blocks: list[Block] = [Heading("The judge"), Text(f"{judge['about'][:1].upper()}{judge['about'][1:]}.")]
    if judge["ungraded"]:
        words = f"Answers that the judge did not grade, in none of its numbers: {judge['ungraded']:,}. Run it again, "
        words += "with a larger grading.judge_tokens or another judge where its replies cannot be read."
        blocks.append(Text(words, warning=True))
    shown = (
        Table(("label", "judge", "right class", "answer"), rows)
        if rows
        else Text(NO_GRADE if not judge["right"]["n"] else "It differs on no answer.")
    )
    return [*blocks, shown]


def _bar(name: str, agreement: Mapping[str, Any]) -> Bar:
    rate = agreement["rate"]
    return Bar(name, rate["value"], f"{percent(rate['value'])}, n = {agreement['n']:,}", rate["low"], rate["high"])


def _cells(agreement: Mapping[str, Any]) -> list[str]:
    rate, kappa = agreement["rate"], agreement["kappa"]
    within = "–" if kappa["low"] is None else f"{kappa['low']:.2f} to {kappa['high']:.2f}"
    value = "not defined" if kappa["value"] is None else f"{kappa['value']:.2f}"
    return [percent(rate["value"]), interval(rate), value, within, f"{agreement['n']:,}"]


def _shares(entry: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    return [f"{same} of {total}" for same, total in (entry["kinds"].get(kind, (0, 0)) for kind in kinds)]


def write_agreement(output: Path, found: Mapping[str, Any]) -> Path:
    """Write agreement.json, agreement.md and agreement.html into `output`; returns the last."""
    return write_result(ResultsDir(output).agreement, found, agreement_page(found))
