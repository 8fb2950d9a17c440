"""Agreement of two raters on the same items: the share of equal outcomes and Cohen's kappa, each with its interval.

Kappa (Cohen 1960, Educational and Psychological Measurement 20) is the agreement beyond that of independent raters with
the same frequencies: 1 for equal outcomes, 0 for chance. Its interval is by the bootstrap over items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.metrics.accuracy import Rate
from eval.metrics.bootstrap import resampled


def agreement_of(first: Sequence[str], second: Sequence[str]) -> dict[str, Any]:
    """`rate` of equal outcomes and `kappa` (None where it is not defined: all outcomes are one), with intervals, and n.

    Kappa has no interval where no draw of the items differs from another, as for raters who always agree.

    >>> found = agreement_of(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    >>> found["rate"]["count"], found["kappa"]["value"], found["n"]
    (3, 0.5, 4)
    """
    names = sorted({*first, *second})
    place = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(first), len(names) ** 2))
    for item, (one, other) in enumerate(zip(first, second, strict=True)):
        table[item, place[one] * len(names) + place[other]] = 1
    value = float(_kappa(table.sum(axis=0)[None])[0]) if len(table) else float("nan")
    defined = not np.isnan(value)
    low, high = resampled(table, _kappa) if defined else (None, None)
    if low is not None and low == high:  # the draws say nothing of how far it may be off
        low, high = None, None
    same = sum(one == other for one, other in zip(first, second, strict=True))
    kappa = {"value": value if defined else None, "low": low, "high": high}
    return {"n": len(first), "rate": Rate(same, len(first)).to_json(), "kappa": kappa}


def cohens_kappa(table: Sequence[Sequence[int]]) -> float | None:
    """Kappa of a square table of counts, rows by the first rater; None where it is not defined.

    >>> cohens_kappa([[2, 0], [1, 1]])
    0.5
    """
    value = float(_kappa(np.array(table, dtype=np.float64).reshape(1, -1))[0])
    return None if np.isnan(value) else value


def _kappa(counts: np.ndarray) -> np.ndarray:
    """Kappa of each flattened table of counts [draws, outcomes * outcomes]; NaN where chance agreement is complete."""
    size = round(counts.shape[1] ** 0.5)
    tables = counts.reshape(len(counts), size, size)
    total = tables.sum(axis=(1, 2))
    same = np.trace(tables, axis1=1, axis2=2) / total
    chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(chance < 1, (same - chance) / (1 - chance), np.nan)
    return found
