"""The paired difference of two models' F1 scores on the same yes-or-no questions, with a bootstrap over images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.metrics.bootstrap import bounded, group_sums, ratio
from eval.metrics.paired import items_of_both
from eval.types import Prediction, Score

Scored = Sequence[tuple[Prediction, Score]]


def f1_difference(first: Scored, second: Scored) -> dict[str, Any]:
    """Second less first over the questions of both, its interval, and the numbers of questions and images.

    Difference and interval are None where one of the F1 scores is not defined. Raises `RunError` if the two
    have no question in common.
    """
    pairs = [{p.id: (p, s) for p, s in scored} for scored in (first, second)]
    both = items_of_both(*pairs)
    rows = ((pairs[0][name][0].group or name, [*_cells(*pairs[0][name]), *_cells(*pairs[1][name])]) for name in both)
    sums = group_sums(rows)
    value = float(_gain(sums.sum(axis=0)[None])[0])
    low, high = bounded(sums, _gain, least=-1.0)
    known = not np.isnan(value)
    return {
        "difference": value if known else None,
        "low": low if known else None,
        "high": high if known else None,
        "items": len(both),
        "groups": len(sums),
        "left_out": len(pairs[0].keys() ^ pairs[1].keys()),
    }


def _cells(prediction: Prediction, score: Score) -> tuple[float, float, float]:
    """True yes, false yes, missed yes."""
    right, said = prediction.target == "yes", score.extracted == "yes"
    return float(right and said), float(said and not right), float(right and not said)


def _gain(sums: np.ndarray) -> np.ndarray:
    scores = [ratio(2 * sums[:, a], 2 * sums[:, a] + sums[:, a + 1] + sums[:, a + 2]) for a in (0, 3)]
    gain: np.ndarray = scores[1] - scores[0]
    return gain
