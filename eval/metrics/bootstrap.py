"""95 % intervals by the bootstrap over groups: dependent questions, such as those about one image, are drawn together.

    resampled(sums, statistic)      percentile interval of statistic(summed columns) over draws of the groups
    bounded(sums, statistic)        the same of a number from 0 to 1, with some width where all groups are alike

`sums` [groups, columns] holds what each group adds to the sums that the statistic is computed from (Efron 1979, Annals
of Statistics 7; the percentile interval). Draws are seeded: one report has the same interval on every machine.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from eval.metrics.accuracy import wilson

DRAWS = 2000
SEED = 0
NO_WIDTH = 1e-9
CHUNK = 50  # draws at a time: [50, groups, columns] doubles in memory
Statistic = Callable[[np.ndarray], np.ndarray]
"""Sums [draws, columns] to values [draws], NaN where it is not defined."""


def group_sums(items: Iterable[tuple[Hashable, Sequence[float]]]) -> np.ndarray:
    """(group, columns) of every item to the sums of each group, [groups, columns], in the order of first occurrence."""
    found: dict[Hashable, np.ndarray] = {}
    for group, columns in items:
        row = np.asarray(columns, dtype=np.float64)
        found[group] = found[group] + row if group in found else row
    return np.stack(list(found.values())) if found else np.zeros((0, 0))


def resampled(sums: np.ndarray, statistic: Statistic) -> tuple[float | None, float | None]:
    """(low, high), the 2.5 % and 97.5 % quantiles over draws; None where fewer than two groups or no defined value are.

    >>> resampled(np.array([[1.0, 2.0], [2.0, 2.0]]), lambda total: total[:, 0] / total[:, 1])
    (0.5, 1.0)
    """
    groups = len(sums)
    if groups < 2:
        return None, None
    random, values = np.random.default_rng(SEED), []
    for _ in range(0, DRAWS, CHUNK):
        drawn = random.integers(groups, size=(CHUNK, groups))
        values.append(statistic(sums[drawn].sum(axis=1)))
    defined = np.concatenate(values)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def bounded(sums: np.ndarray, statistic: Statistic, least: float = 0.0) -> tuple[float, float]:
    """(low, high) of a number between `least` and 1, also where the draws alone give no interval or no width.

    Of fewer than two groups for which the number is defined it is (least, 1). Where no group differs from another,
    at most the share of Wilson's upper limit for 0 of the groups does, and these groups may have any value.

    >>> low, high = bounded(np.ones((96, 2)), lambda total: total[:, 0] / total[:, 1])
    >>> round(low, 3), high
    (0.962, 1.0)
    """
    defined = int(np.count_nonzero(~np.isnan(statistic(sums)))) if len(sums) else 0
    low, high = resampled(sums, statistic)
    if low is None or high is None or defined < 2:
        return least, 1.0
    if high - low > NO_WIDTH:
        return low, high
    _, others = wilson(0, defined)
    return low - others * (low - least), high + others * (1.0 - high)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The quotient, NaN where `below` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(below > 0, above / below, np.nan)
    return found
