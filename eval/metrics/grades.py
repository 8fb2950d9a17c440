"""Numbers of one grader: outcomes with intervals, the mean of scores, agreement with the protocol's score.

Pure functions of grades; shares are fractions from 0 to 1.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from eval.metrics.accuracy import Z_95, Rate
from eval.metrics.kappa import cohens_kappa


def mean_with_interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean with its 95 % interval by the normal approximation (none of fewer than two values), and n.

    The interval ends at -1 and 1, beyond which no score is.

    >>> {key: round(value, 3) for key, value in mean_with_interval([0.0, 1.0, 1.0, 0.0]).items()}
    {'value': 0.5, 'low': -0.066, 'high': 1.0, 'n': 4}
    """
    if not values:
        return {"value": None, "low": None, "high": None, "n": 0}
    mean = fmean(values)
    half = Z_95 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    low, high = (None, None) if half is None else (max(-1.0, mean - half), min(1.0, mean + half))
    return {"value": mean, "low": low, "high": high, "n": len(values)}


def agreement(first: Mapping[str, bool], second: Mapping[str, bool]) -> dict[str, Any]:
    """How often two ways to score agree on which of the same items are correct, and Cohen's kappa (Cohen 1960).

    `first_only` counts items that only the first calls correct. Kappa is None where it is not defined: both call all
    items correct, or all not.

    >>> found = agreement({"a": True, "b": True, "c": False}, {"a": True, "b": False, "c": False})
    >>> found["rate"]["count"], found["n"], round(found["kappa"], 3)
    (2, 3, 0.4)
    """
    both = sorted(first.keys() & second.keys())
    pairs = [(first[item], second[item]) for item in both]
    count = {pair: pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))}
    same, n = count[True, True] + count[False, False], len(both)
    table = [[count[one, other] for other in (True, False)] for one in (True, False)]
    return {
        "n": n,
        "rate": Rate(same, n).to_json(),
        "kappa": cohens_kappa(table) if n else None,
        "both": count[True, True],
        "first_only": count[True, False],
        "second_only": count[False, True],
        "neither": count[False, False],
    }
