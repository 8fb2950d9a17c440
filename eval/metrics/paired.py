"""Two models on the same items: the paired difference of their accuracies, and McNemar's exact test.

Accuracies on the same items are not independent: only the items on which two models disagree carry information about
which is better. McNemar's test asks whether these items are split evenly.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.errors import RunError
from eval.metrics.accuracy import Z_95


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """`first_only`: items that only the first run answers correctly, `second_only`: the reverse, of `items` of both."""

    items: int
    first_correct: int
    second_correct: int
    first_only: int
    second_only: int
    left_out: int = 0

    @property
    def p_value(self) -> float:
        """How probable so uneven a split of the disagreements is, if both runs were equally good."""
        return mcnemar(self.first_only, self.second_only)

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first."""
        return (self.second_only - self.first_only) / self.items

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference, with half an item more in each of the four cells.

        Agresti and Min 2005, Statistics in Medicine 24: without them, two runs that never disagree would have an
        interval of no width, and few items one that is too narrow.
        """
        items, gained = self.items + 2, self.second_only - self.first_only
        spread = Z_95 * math.sqrt(self.first_only + self.second_only + 1 - gained**2 / items) / items
        return max(-1.0, gained / items - spread), min(1.0, gained / items + spread)

    def to_json(self) -> dict[str, Any]:
        """All numbers by name."""
        low, high = self.interval
        counts = {name: getattr(self, name) for name in self.__slots__}
        return {**counts, "difference": self.difference, "low": low, "high": high, "p_value": self.p_value}


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value: twice the smaller binomial tail at one half, at most 1.

    >>> round(mcnemar(2, 8), 4)
    0.1094
    """
    from scipy.stats import binomtest  # slow to import, needed by comparisons only

    total = first_only + second_only
    return float(binomtest(first_only, total).pvalue) if total else 1.0


def items_of_both(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    """The ids of the items that both runs have, sorted. Raises `RunError` if there are none."""
    both = sorted(first.keys() & second.keys())
    if not both:
        raise RunError("the two runs have no item in common; compare evaluations of one source")
    return both


def compare_correct(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedDifference:
    """Compare by item id; items of one run alone are left out, and counted. Raises as `items_of_both`."""
    both = items_of_both(first, second)
    pairs = Counter((first[item], second[item]) for item in both)
    agree = pairs[True, True]
    correct = agree + pairs[True, False], agree + pairs[False, True]
    return PairedDifference(
        len(both), *correct, pairs[True, False], pairs[False, True], len(first.keys() ^ second.keys())
    )
