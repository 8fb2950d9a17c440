"""Uncertainty of a number over items that is no share: items are drawn again with replacement (bootstrap). Pure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.class_scores.rules import Floats
from eval.metrics.accuracy import wilson

RESAMPLES = 1000
SEED = 0

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number over `n` items with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        """The fields by name, as those of a rate in report.json."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def resampled(items: int, statistic: Callable[[Indices], float]) -> Floats:
    """(RESAMPLES,) values of `statistic`, each of `items` indices drawn with replacement; the same in every call."""
    generator = np.random.default_rng(SEED)
    return np.array([statistic(generator.integers(0, items, items)) for _ in range(RESAMPLES)])


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def unseen_outcome(correct: NDArray[np.bool_]) -> float | None:
    """How many more items of the other outcome there may be (Wilson's upper limit), where all are right or all wrong.

    Resampling such items gives an interval without width, however few they are. None where both outcomes occur.
    """
    return wilson(0, len(correct))[1] if correct.all() or not correct.any() else None


def reversed_interval(value: float, values: Floats) -> tuple[float, float]:
    """The basic bootstrap interval of a number from 0 to 1: the deviations of resampled values, reversed.

    For numbers that rise with the noise, such as a calibration error: resampling adds as much noise again, so that the
    percentiles of the resampled values are all too high (Davison and Hinkley 1997, Section 5.2).
    """
    low, high = percentile_interval(values)
    return min(1.0, max(0.0, 2 * value - high)), min(1.0, max(0.0, 2 * value - low))
