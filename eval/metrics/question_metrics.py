"""Numbers of tasks whose questions share images: mean credit, and precision, recall, F1 and share of yes.

Intervals are by the bootstrap over images. `value` and interval are None where a number is not defined.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.metrics.accuracy import Rate
from eval.metrics.bootstrap import Statistic, bounded, group_sums, ratio
from eval.types import Prediction, Score

Scored = Sequence[tuple[Prediction, Score]]
Number = dict[str, Any]
BY_IMAGE = ("vqa", "yes_no")
"""Tasks whose accuracy has an interval over images."""
GRADED = "graded"
"""The task whose answers no rule scores: its numbers are those of graders."""
YES_NO: Mapping[str, Statistic] = {
    "precision": lambda s: ratio(s[:, 0], s[:, 0] + s[:, 1]),
    "recall": lambda s: ratio(s[:, 0], s[:, 0] + s[:, 3]),
    "f1": lambda s: ratio(2 * s[:, 0], 2 * s[:, 0] + s[:, 1] + s[:, 3]),
    "yes_ratio": lambda s: ratio(s[:, 0] + s[:, 1], s[:, 4]),
}
"""From sums of (true yes, false yes, true no, missed yes, all); an answer that says neither misses a yes."""
NAMES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1 score",
    "yes_ratio": "share of yes",
    "mm_vet": "MM-Vet score",
}


def accuracy_of(task: str, scored: Scored) -> Number:
    """The accuracy as report.json holds it: a share with Wilson's interval, or mean points with one over images."""
    if task in BY_IMAGE:
        return mean_points(scored)
    return Rate(sum(score.value is True for _, score in scored), len(scored)).to_json()


def mean_points(scored: Scored) -> Number:
    """The mean of the scores' points, its interval over images, and how many images there are."""
    return mean_of_points((_group(p), score.points) for p, score in scored)


def mean_of_points(pairs: Iterable[tuple[str, float]]) -> Number:
    """As `mean_points`, of (image, points of one of its questions)."""
    sums = group_sums((group, (points, 1.0)) for group, points in pairs)
    if not len(sums):
        return {"value": None, "low": None, "high": None, "count": 0, "n": 0}
    low, high = bounded(sums, lambda total: ratio(total[:, 0], total[:, 1]))
    points, count = sums.sum(axis=0)
    return {
        "value": float(points / count),
        "low": low,
        "high": high,
        "count": round(float(points), 4),
        "n": int(count),
        "groups": len(sums),
        "interval": _over_images(len(sums)),
    }


def outcome_shares(task: str, scored: Scored) -> dict[str, Number]:
    """Wrong answers and none as shares of all, and correct ones as a share of those that answer, as `accuracy_of`."""
    flags = [(_group(p), [score.value is value for value in (True, False, None)]) for p, score in scored]
    sums = group_sums((group, list(map(float, flag))) for group, flag in flags)
    correct, wrong, none = map(int, sums.sum(axis=0)) if len(sums) else (0, 0, 0)
    shares: dict[str, tuple[int, int, Statistic]] = {
        "wrong": (wrong, len(scored), lambda s: ratio(s[:, 1], s.sum(axis=1))),
        "no_answer": (none, len(scored), lambda s: ratio(s[:, 2], s.sum(axis=1))),
        "accuracy_of_answers": (correct, correct + wrong, lambda s: ratio(s[:, 0], s[:, 0] + s[:, 1])),
    }
    found: dict[str, Number] = {}
    for name, (count, total, statistic) in shares.items():
        found[name] = Rate(count, total).to_json()
        if task in BY_IMAGE and total:
            low, high = bounded(sums, statistic)
            found[name] |= {"low": low, "high": high, "interval": _over_images(len(sums))}
    return found


def _over_images(images: int) -> str:
    return f"bootstrap over {images:,} images"


def yes_no_numbers(scored: Scored) -> dict[str, Number]:
    """Precision, recall, F1 of `yes` and the share of answers that say it, each with its interval and its counts.

    As in POPE (arXiv 2305.10355), `yes` is the positive answer.
    """
    sums = group_sums((_group(p), _cells(p, score)) for p, score in scored)
    if not len(sums):
        return {}
    total = sums.sum(axis=0)[None]
    found = {}
    for name, statistic in YES_NO.items():
        value = float(statistic(total)[0])
        low, high = bounded(sums, statistic)
        known = not np.isnan(value)
        found[name] = {
            "value": value if known else None,
            "low": low if known else None,
            "high": high if known else None,
            "n": len(scored),
        }
    cells = dict(zip(("true_yes", "false_yes", "true_no", "missed_yes"), map(int, total[0][:4]), strict=True))
    return {name: number | cells for name, number in found.items()}


def numbers_of(task: str, scored: Scored) -> dict[str, Number]:
    """Further numbers of a task's report by name; none for most tasks."""
    return yes_no_numbers(scored) if task == "yes_no" else {}


def graded_numbers(grades: Sequence[Mapping[str, Any]]) -> dict[str, Number]:
    """The total of each grader that gives numbers to questions with capabilities, by the grader's name."""
    return {str(entry["grader"]): dict(entry["capabilities"]["total"]) for entry in grades if entry["capabilities"]}


def _group(prediction: Prediction) -> str:
    return prediction.group or prediction.id


def _cells(prediction: Prediction, score: Score) -> tuple[float, ...]:
    right, said = prediction.target == "yes", score.extracted == "yes"
    true_no = not right and score.extracted == "no"
    return (float(right and said), float(not right and said), float(true_no), float(right and not said), 1.0)
