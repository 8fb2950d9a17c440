"""Numbers of several training seeds: the interval of their mean, paired differences, and p-values of several tests.

    t_interval([0.81, 0.84, 0.83])                        (0.789, 0.865), Student's t with n - 1 degrees of freedom
    paired_seeds([0.81, 0.84, 0.83], [0.79, 0.80, 0.80])  their differences seed by seed, with interval and p-value

Pure functions: numbers in, numbers out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

ROUNDING = 1e-12  # differences between equal values that floating point leaves, as a share of the values


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean behind `values`; None of fewer than two values, or of values that are all equal.

    Equal values say that the seed changes nothing that is measured, not that the mean is known exactly.

    >>> [round(bound, 4) for bound in t_interval([1.0, 2.0, 3.0])]
    [-0.4841, 4.4841]
    """
    if len(values) < 2 or _are_equal(values, values):
        return None
    from scipy.stats import t  # slow to import, needed by tables only

    spread = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - spread, fmean(values) + spread


def _are_equal(values: Sequence[float], of: Sequence[float]) -> bool:
    """Whether `values`, computed from the numbers `of`, are the same but for rounding."""
    return max(values) - min(values) <= ROUNDING * max(map(abs, of))


@dataclass(frozen=True, slots=True)
class PairedSeeds:
    """Mean of the differences of `n` pairs with its 95 % interval and the p-value of a paired t-test.

    `low`, `high` and `p_value` are None of fewer than two pairs, or where all differences are equal.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def paired_seeds(first: Sequence[float], second: Sequence[float]) -> PairedSeeds:
    """`first` minus `second`, seed by seed. Both have one value for each of the same seeds, at least one."""
    differences = [one - other for one, other in zip(first, second, strict=True)]
    bounds = None if _are_equal(differences, [*first, *second]) else t_interval(differences)
    if bounds is None:
        return PairedSeeds(len(differences), fmean(differences), None, None, None)
    from scipy.stats import t

    statistic = fmean(differences) / (stdev(differences) / math.sqrt(len(differences)))
    p_value = 2 * float(t.sf(abs(statistic), len(differences) - 1))
    return PairedSeeds(len(differences), fmean(differences), *bounds, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for how many there are (Holm 1979, Scandinavian Journal of Statistics 6), in their order.

    >>> [round(value, 2) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted
