"""Two models on the same items where scores have partial credit, or several questions share an image.

The difference of the mean points has a bootstrap interval over images, and a p-value by a randomization test: if the
models are equally good, the sign of each image's difference is a coin toss (Fisher 1935; seeded draws).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from eval.metrics.bootstrap import CHUNK, bounded, group_sums, ratio
from eval.metrics.paired import compare_correct, items_of_both
from eval.types import Prediction, Score

FLIPS = 10_000
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ItemPoints:
    """An item's points, 0 to 1, and the image that it shares with others (None: it shares none)."""

    points: float
    group: str | None = None


def points_of(scored: Sequence[tuple[Prediction, Score]]) -> dict[str, ItemPoints]:
    """Item id to its points and image; an item without an answer has no points."""
    return {prediction.id: ItemPoints(score.points, prediction.group) for prediction, score in scored}


def compare_points(first: Mapping[str, ItemPoints], second: Mapping[str, ItemPoints]) -> dict[str, Any]:
    """The paired difference: McNemar's where items are independent and right or wrong, else by images.

    The keys are those of `PairedDifference`; by images `first_only` counts the items where the first has more points,
    and `groups` is the number of images. Raises `RunError` if no item is in both.
    """
    values = (*first.values(), *second.values())
    if all(value.group is None and value.points in (0.0, 1.0) for value in values):
        return compare_correct(
            *({name: found[name].points == 1 for name in found} for found in (first, second))
        ).to_json()
    both = items_of_both(first, second)
    gains = {name: second[name].points - first[name].points for name in both}
    sums = group_sums((first[name].group or name, (gains[name], 1.0)) for name in both)
    low, high = bounded(sums, lambda total: ratio(total[:, 0], total[:, 1]), least=-1.0)
    return {
        "items": len(both),
        "first_correct": round(sum(first[name].points for name in both), 4),
        "second_correct": round(sum(second[name].points for name in both), 4),
        "first_only": sum(gain < -ROUNDING for gain in gains.values()),
        "second_only": sum(gain > ROUNDING for gain in gains.values()),
        "left_out": len(first.keys() ^ second.keys()),
        "difference": float(sums[:, 0].sum() / len(both)),
        "low": low,
        "high": high,
        "p_value": sign_flips(sums[:, 0]),
        "groups": len(sums),
    }


def sign_flips(gains: np.ndarray) -> float:
    """Two-sided p-value of the sum of `gains` [groups]: exact for few groups, else over `FLIPS` seeded draws.

    >>> sign_flips(np.array([1.0, 1.0, 1.0]))
    0.25
    """
    gains = gains[np.abs(gains) > ROUNDING]
    total, few = abs(gains.sum()) - ROUNDING, 2 ** len(gains) <= FLIPS
    if not len(gains):
        return 1.0
    if few:
        bits = np.arange(2 ** len(gains))[:, None] >> np.arange(len(gains))
        return float(np.mean(np.abs((1 - 2 * (bits & 1)) @ gains) >= total))
    random, extreme = np.random.default_rng(0), 0
    for _ in range(0, FLIPS, CHUNK):
        signs = random.choice((-1.0, 1.0), size=(CHUNK, len(gains)))
        extreme += int(np.sum(np.abs(signs @ gains) >= total))
    return (extreme + 1) / (FLIPS + 1)


def compare_points_pairs(runs: Mapping[str, Mapping[str, ItemPoints]]) -> list[dict[str, Any]]:
    """Every pair of `runs` (name to item id to points), in order. Raises as `compare_points`."""
    return [
        {"first": first, "second": second, **compare_points(runs[first], runs[second])}
        for first, second in combinations(runs, 2)
    ]
