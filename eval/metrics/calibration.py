"""Calibration: is a model that is 80 % confident right in 80 % of such items? Pure functions of arrays.

    ECE = sum over bins of (items of the bin / all items) |accuracy of the bin - mean confidence of the bin|

The expected calibration error (Guo et al. 2017, arXiv 1706.04599) depends on its bins, so each number is given with
their name: `equal_width` (15 bins from 0 to 1, the upper end inside, as there) and `equal_size` (15 bins with the same
number of items, as far as equal confidences allow: Nguyen and O'Connor 2015). It is above 0 for a perfectly calibrated
model too, the more so the fewer items there are: `expected_if_calibrated` says by how much.

Shapes: `N` items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.class_scores.rules import Floats
from eval.metrics.accuracy import Rate
from eval.metrics.resampling import SEED, Estimate, Indices, resampled, reversed_interval, unseen_outcome

BINS = 15
CALIBRATED_DRAWS = 200

Flags = NDArray[np.bool_]


def equal_width(confidences: Floats, bins: int = BINS) -> Indices:
    """(N,) the bin of each confidence: bin i holds those above i / bins, up to and including (i + 1) / bins.

    >>> equal_width(np.array([0.0, 0.2, 0.21, 1.0]), 5).tolist()
    [0, 0, 1, 4]
    """
    return np.searchsorted(np.arange(1, bins) / bins, confidences, side="left").astype(np.int64)


def equal_size(confidences: Floats, bins: int = BINS) -> Indices:
    """(N,) the bin of each confidence, by its rank; equal confidences share a bin.

    >>> equal_size(np.array([0.9, 0.1, 0.5, 0.5]), 2).tolist()
    [1, 0, 0, 0]
    """
    smaller = np.searchsorted(np.sort(confidences), confidences, side="left")
    return (smaller * bins // max(1, len(confidences))).astype(np.int64)


BINNINGS: Mapping[str, Callable[[Floats], Indices]] = {"equal_width": equal_width, "equal_size": equal_size}


@dataclass(frozen=True, slots=True)
class Bin:
    """The items of one bin: their lowest and highest confidence, the mean confidence, and how many are right."""

    low: float
    high: float
    confidence: float
    rate: Rate

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "from": self.low,
            "to": self.high,
            "confidence": self.confidence,
            "accuracy": self.rate.to_json(),
        }


def calibration_error(gaps: Floats, bins: Indices) -> float:
    """The ECE; `gaps` (N,) are confidence less correctness (0 or 1), `bins` (N,) the bin of each item."""
    return float(np.abs(np.bincount(bins, gaps)).sum() / len(gaps))


def estimate_calibration_error(confidences: Floats, correct: Flags, binning: str = "equal_width") -> Estimate:
    """The ECE with its 95 % interval (`reversed_interval`, `unseen_outcome`); the bins stay those of all items."""
    gaps, bins = confidences - correct, BINNINGS[binning](confidences)
    value = calibration_error(gaps, bins)
    values = resampled(len(gaps), lambda drawn: calibration_error(gaps[drawn], bins[drawn]))
    low, high = reversed_interval(value, values)
    if (margin := unseen_outcome(correct)) is not None:
        low, high = min(low, max(0.0, value - margin)), max(high, min(1.0, value + margin))
    return Estimate(value, low, high, len(gaps))


def expected_if_calibrated(confidences: Floats, binning: str = "equal_width") -> float:
    """The mean ECE of a perfectly calibrated model with these confidences: what the number of items alone causes."""
    generator, bins = np.random.default_rng(SEED), BINNINGS[binning](confidences)
    draws = (confidences > generator.random(len(confidences)) for _ in range(CALIBRATED_DRAWS))
    return float(np.mean([calibration_error(confidences - drawn, bins) for drawn in draws]))


def reliability(confidences: Floats, correct: Flags) -> list[Bin]:
    """The bins of equal width that have items, by confidence: the points of a reliability diagram."""
    bins = equal_width(confidences)
    found = []
    for number in np.unique(bins):
        inside = bins == number
        part = confidences[inside]
        rate = Rate(int(correct[inside].sum()), len(part))
        found.append(Bin(float(part.min()), float(part.max()), float(part.mean()), rate))
    return found
