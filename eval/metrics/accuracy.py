"""Counts to numbers with their uncertainty. Pure functions; shares are fractions from 0 to 1."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import correlation
from typing import Any

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % quantile
LOG_EDGES = (0, 1, 10, 100, 1_000, 10_000)  # the last bin has no upper end; the paper speaks of < 10 and > 10,000
AUTHORS_EDGES = (*range(0, 100, 10), 100, 1_000, 10_000, 100_000)  # correlation.ipynb; from the last on, no bin
AUTHORS_MORE = 1e-3  # added to the number of classes by which a bin's mean is divided, in correlation.ipynb


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `total`, with the 95 % Wilson interval (Wilson 1927, JASA 22) of the share behind it."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share; 0 if `total` is 0."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) of the share; (0, 1) if `total` is 0."""
        return wilson(self.count, self.total)

    def to_json(self) -> dict[str, float | int | None]:
        """The rate for report.json. Of no items there is no rate: value and interval are null."""
        if not self.total:
            return {"value": None, "low": None, "high": None, "count": 0, "n": 0}
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "count": self.count, "n": self.total}


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of `count` of `total`: unlike the textbook one it stays within 0 and 1.

    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if total == 0:
        return 0.0, 1.0
    share, z = count / total, Z_95
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if count == 0 else (middle - spread) / scale  # exact at the ends, where rounding is not
    high = 1.0 if count == total else (middle + spread) / scale
    return low, high


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Linear correlation, -1 to 1; None where it is not defined: one of them is constant, or there are under two."""
    if len(first) < 2 or min(first) == max(first) or min(second) == max(second):
        return None
    return correlation(first, second)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Correlation of the ranks, equal values sharing the mean of theirs; None where `pearson` has none."""
    from scipy.stats import rankdata  # slow to import, needed by few reports

    return pearson(rankdata(first).tolist(), rankdata(second).tolist())


def correlation_interval(value: float | None, n: int, *, ranked: bool) -> tuple[float, float] | None:
    """95 % interval of a correlation over `n` pairs by Fisher's z; None where there is none.

    For ranks (Spearman) with the variance of Bonett and Wright 2000, Psychometrika 65.

    >>> [round(bound, 4) for bound in correlation_interval(0.5, 28, ranked=False)]
    [0.156, 0.7357]
    """
    if value is None or n <= 3 or abs(value) >= 1:
        return None
    spread = Z_95 * math.sqrt((1 + value**2 / 2 if ranked else 1) / (n - 3))
    return math.tanh(math.atanh(value) - spread), math.tanh(math.atanh(value) + spread)


@dataclass(frozen=True, slots=True)
class ClassResult:
    """How the items of one class came out; `frequency` is how often the class occurs in the training data."""

    label: int | None
    name: str
    correct: int
    wrong: int
    no_answer: int
    frequency: int | None = None

    @property
    def rate(self) -> Rate:
        """Right of all."""
        return Rate(self.correct, self.correct + self.wrong + self.no_answer)


@dataclass(frozen=True, slots=True)
class Bin:
    """Classes of frequency `low` to `high`: correct of all their items, and the mean of the classes' own accuracies."""

    name: str
    low: int
    high: int
    classes: int
    rate: Rate
    mean_accuracy: float


def per_class(outcomes: Iterable[tuple[int | None, str, bool | None]]) -> list[ClassResult]:
    """(label, class name, value of the score) of every item to one result a class, ordered by label, then name.

    Two classes may share a name (ImageNet's "missile"); the label distinguishes them.
    """
    counts: dict[tuple[int, str, int | None], list[int]] = {}
    for label, name, value in outcomes:
        row = counts.setdefault((-1 if label is None else label, name, label), [0, 0, 0])
        row[0 if value else 1 if value is False else 2] += 1
    return [ClassResult(key[2], key[1], *counts[key]) for key in sorted(counts, key=lambda key: key[:2])]


def macro_accuracy(classes: Sequence[ClassResult]) -> dict[str, float | int | None]:
    """The mean of the classes' accuracies, so that every class counts alike, with its 95 % interval.

    The interval combines the Wilson intervals of the classes by the recovery of variances (Zou and Donner 2008,
    Statistics in Medicine 27), which has a width also where all classes are at 0 or 1. Value and interval are null
    without classes; `n` is the number of items.
    """
    rates = [result.rate for result in classes if result.rate.total]
    if not rates:
        return {"value": None, "low": None, "high": None, "classes": 0, "n": 0}
    number, value = len(rates), math.fsum(rate.value for rate in rates) / len(rates)
    below = math.sqrt(math.fsum((rate.value - rate.interval[0]) ** 2 for rate in rates)) / number
    above = math.sqrt(math.fsum((rate.interval[1] - rate.value) ** 2 for rate in rates)) / number
    total = sum(rate.total for rate in rates)
    return {"value": value, "low": value - below, "high": value + above, "classes": number, "n": total}


def class_results(report: Mapping[str, Any]) -> list[ClassResult]:
    """The class results in the content of a report.json."""
    return [ClassResult(**values) for values in report["classes"]]


def thirds(classes: Sequence[ClassResult]) -> list[Bin]:
    """Three bins of equally many classes, by frequency; classes without one are left out."""
    known = sorted((c for c in classes if c.frequency is not None), key=lambda c: (c.frequency, c.name))
    cuts = [len(known) * part // 3 for part in range(4)]
    parts = [known[cuts[part] : cuts[part + 1]] for part in range(3)]
    names = ("rarest third", "middle third", "most frequent third")
    return [_bin(name, part) for name, part in zip(names, parts, strict=True) if part]


def log_bins(classes: Sequence[ClassResult], edges: str = "open") -> list[Bin]:
    """Bins by powers of ten of the frequency: never, 1 to 9, 10 to 99, ... ; empty ones are left out.

    With `edges` `official` those of the authors: tens below 100, none from 100,000 on, and means divided by a
    thousandth of a class more.
    """
    if edges == "official":
        return [
            _bin(f"{low:,} to {high - 1:,}", part, AUTHORS_MORE)
            for low, high in pairwise(AUTHORS_EDGES)
            if (part := [c for c in classes if c.frequency is not None and low <= c.frequency < high])
        ]
    bins = []
    for number, low in enumerate(LOG_EDGES):
        high = LOG_EDGES[number + 1] if number + 1 < len(LOG_EDGES) else None
        part = [c for c in classes if c.frequency is not None and c.frequency >= low]
        part = [c for c in part if high is None or (c.frequency or 0) < high]
        name = "never" if low == 0 else f"{low:,} or more" if high is None else f"{low:,} to {high - 1:,}"
        bins += [_bin(name, part)] if part else []
    return bins


def _bin(name: str, classes: Sequence[ClassResult], more: float = 0.0) -> Bin:
    total = Rate(sum(c.rate.count for c in classes), sum(c.rate.total for c in classes))
    frequencies = [c.frequency or 0 for c in classes]
    mean = math.fsum(c.rate.value for c in classes) / (len(classes) + more)
    return Bin(name, min(frequencies), max(frequencies), len(classes), total, mean)
