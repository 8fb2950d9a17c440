"""The answers of several models to the same items: any two of them tested, and what differs from the first model.

Only what is stored in the reports' folders can be compared item by item; a report whose answers are elsewhere, or whose
items are others, takes no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from configs.eval_dir import EvalDir
from data_prep.seed_statistics import holm
from eval.metrics.grouped import ItemPoints, compare_points
from eval.metrics.outcomes import answers_and_settings, read_scored
from eval.metrics.paired import PairedDifference, compare_correct
from eval.reports.candidate_set import scored_answer
from eval.reports.item_choice import OUTCOMES
from eval.runner.batching import selection_key
from eval.runner.predictions import hash_of

MOST_ITEMS = 60  # changed items of each direction in report.json
SHOWN_ANSWER = 300  # characters


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """One model's answer to an item: its outcome (`OUTCOMES`), the expected answer, and the item's class."""

    outcome: str
    answer: str
    target: str
    class_name: str | None
    item: ItemPoints | None = None

    @property
    def correct(self) -> bool:
        """Whether it is correct; no answer is not."""
        return self.outcome == OUTCOMES[True]

    @property
    def points(self) -> ItemPoints:
        """The points and the image by which it is compared with another model's."""
        return self.item or ItemPoints(float(self.correct))


Answers = Mapping[str, ComparedAnswer]  # item id to its answer


def compared_answers(report: Mapping[str, Any]) -> dict[str, ComparedAnswer] | None:
    """The answers behind a report; None if they are not in its folder."""
    if "folder" not in report:
        return None
    folder = EvalDir(Path(report["folder"]))
    if not answers_and_settings(folder)[0].config.is_file():
        return None
    protocol, scored = read_scored(folder)
    return {
        p.id: ComparedAnswer(
            OUTCOMES[score.value],
            scored_answer(protocol, p, score)[:SHOWN_ANSWER],
            p.target,
            p.label_name,
            ItemPoints(score.points, p.group),
        )
        for p, score in scored
    }


def pairwise_tests(
    reports: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Answers | None]
) -> list[dict[str, Any]]:
    """Every pair of models with items in common: `compare_points` by name, and `p_adjusted` for all these tests."""
    pairs = []
    for first, second in combinations(reports, 2):
        one, other = answers[first], answers[second]
        if one is None or other is None or not _same_items(reports[first], reports[second]):
            continue
        if one.keys() & other.keys():
            pairs.append({"first": first, "second": second, **compare_points(_points(one), _points(other))})
    adjusted = holm([pair["p_value"] for pair in pairs])
    return [pair | {"p_adjusted": value} for pair, value in zip(pairs, adjusted, strict=True)]


def changes_from_first(
    models: Mapping[str, Mapping[str, Any]], evaluation: str, answers: Mapping[str, Answers | None]
) -> dict[str, Any]:
    """Model to `changes` from the first of `models`, where both answered the same items of `evaluation`."""
    first = next(iter(models))
    reference = answers.get(first)
    if reference is None:
        return {}
    found = {}
    for name, given in answers.items():
        same = name != first and _same_items(models[first][evaluation], models[name][evaluation])
        if same and given and reference.keys() & given.keys():
            found[name] = changes(reference, given)
    return found


def changes(first: Answers, second: Answers) -> dict[str, Any]:
    """Classes by how their accuracy differs, and the items of which only one is correct, over the items of both.

    `gained` and `lost` count items; of each at most `MOST_ITEMS` are in `items`, in an order drawn from the ids.
    """
    both = sorted(first.keys() & second.keys(), key=lambda name: selection_key(hash_of(name)))
    gained = [name for name in both if second[name].correct and not first[name].correct]
    lost = [name for name in both if first[name].correct and not second[name].correct]
    items = [
        {
            "id": name,
            "class": first[name].class_name,
            "target": first[name].target,
            "change": change,
            "first_outcome": first[name].outcome,
            "first_answer": first[name].answer,
            "second_outcome": second[name].outcome,
            "second_answer": second[name].answer,
        }
        for change, names in (("lost", lost), ("gained", gained))
        for name in names[:MOST_ITEMS]
    ]
    return {"gained": len(gained), "lost": len(lost), "items": items, "classes": _classes(first, second, both)}


def _classes(first: Answers, second: Answers, both: Sequence[str]) -> list[dict[str, Any]]:
    """Each class's paired difference, the largest gain first."""
    members: dict[str, list[str]] = {}
    for name in both:
        if class_name := first[name].class_name:
            members.setdefault(class_name, []).append(name)
    rows = [{"class": name, **_paired(first, second, items).to_json()} for name, items in members.items()]
    return sorted(rows, key=lambda row: (-row["difference"], row["class"]))


def _paired(first: Answers, second: Answers, items: Sequence[str]) -> PairedDifference:
    return compare_correct(*({name: given[name].correct for name in items} for given in (first, second)))


def _points(answers: Answers) -> dict[str, ItemPoints]:
    return {name: answer.points for name, answer in answers.items()}


def _same_items(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return bool(first["protocol"]["data"] == second["protocol"]["data"])
