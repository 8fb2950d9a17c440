"""Abstention: how accurate is a model that answers only where it is confident? Pure functions of arrays.

A threshold on the confidence decides which items are answered. Coverage is the share that is answered, risk the error
rate among them. AURC, the area under the curve of risk over coverage (Geifman and El-Yaniv 2017, arXiv 1705.08500), is
the mean over all items of the error rate among the items that are at least as confident; 0 is perfect. Items of equal
confidence are answered together, so no number depends on the order of the items.

Shapes: `N` items, `G` distinct confidences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.class_scores.rules import Floats
from eval.metrics.accuracy import Rate
from eval.metrics.resampling import Estimate, Indices, percentile_interval, resampled, unseen_outcome

COVERAGES = tuple(step / 20 for step in range(1, 21))

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """The items with a confidence of at least `threshold`: which share of all they are, and how many are right."""

    threshold: float
    coverage: float
    rate: Rate

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {"threshold": self.threshold, "coverage": self.coverage, "accuracy": self.rate.to_json()}


def aurc(confidences: Floats, correct: Flags) -> float:
    """The area under the risk-coverage curve.

    >>> round(aurc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])), 4)
    0.1458
    """
    groups = _groups(confidences)
    return _aurc(groups, ~correct)


def estimate_aurc(confidences: Floats, correct: Flags) -> Estimate:
    """The AURC with its 95 % interval by the bootstrap (and `unseen_outcome`)."""
    groups, wrong = _groups(confidences), ~correct
    values = resampled(len(wrong), lambda drawn: _aurc(groups[drawn], wrong[drawn]))
    value, (low, high) = _aurc(groups, wrong), percentile_interval(values)
    if (margin := unseen_outcome(correct)) is not None:
        low, high = max(0.0, low - margin), min(1.0, high + margin)
    return Estimate(value, low, high, len(wrong))


def best_aurc(correct: Flags) -> float:
    """The AURC that no model of this accuracy can be below: every right item before every wrong one.

    >>> best_aurc(np.array([True, False]))
    0.25
    """
    ranks = np.arange(1, len(correct) + 1)
    return float((np.maximum(0, ranks - correct.sum()) / ranks).mean())


def coverage_curve(confidences: Floats, correct: Flags, coverages: Sequence[float] = COVERAGES) -> list[CoveragePoint]:
    """For each coverage the highest threshold that answers at least this share of the items; each threshold once."""
    falling = np.sort(confidences)[::-1]
    points: list[CoveragePoint] = []
    for coverage in coverages:
        threshold = float(falling[max(0, int(np.ceil(round(coverage * len(falling), 9))) - 1)])
        if points and points[-1].threshold == threshold:
            continue
        answered = confidences >= threshold
        rate = Rate(int((correct & answered).sum()), int(answered.sum()))
        points.append(CoveragePoint(threshold, rate.total / len(falling), rate))
    return points


def _groups(confidences: Floats) -> Indices:
    """(N,) the number of each item's confidence among the G distinct ones, the highest first."""
    _, inverse = np.unique(-confidences, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64)


def _aurc(groups: Indices, wrong: Flags) -> float:
    counts = np.bincount(groups)
    risks = np.cumsum(np.bincount(groups, wrong)) / np.maximum(1, np.cumsum(counts))
    return float((counts * risks).sum() / len(groups))
