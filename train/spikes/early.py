"""A collapse before there is a baseline: has the level of a loss risen far above the first steps?

While a series has fewer than `monitor.warmup` values, no value can be called an outlier, but a level can be compared:
the values are split in two so that the later part lies above the earlier one. Half-way between the medians of the two
lies a limit; the level has risen if at least 3/4 of the earlier values lie below it, 9/10 of the later ones above it,
and the later median is twice the earlier one and 6 deviations above it. The deviation of single values is taken from
the differences between neighbours, so that neither a fall nor the rise itself counts as noise.

The later part has 12 values or more, 4 at the last value of the warm-up: batches from one source whose losses have two
levels, x0.3 and x1.2 at random, look like a rise in 4 of 1,000 runs, plain noise of 30 % in none of 4,000.
"""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

LEAST_EARLIER, LEAST_LATER, LEAST_LATER_AT_END = 2, 12, 4
BELOW, ABOVE = 0.75, 0.9
LEAST_RISE, RISE_DEVIATIONS, LEAST_DEVIATION = math.log(2), 6.0, 0.02
EVERY_UP_TO, THEN_EVERY = 64, 32  # values: a longer warm-up is not searched at each of its steps


def rise_began(log_values: Sequence[float], last: bool) -> int | None:
    """Index of the first value of a level that has risen, None if none has; `last`: the warm-up ends with these.

    >>> rise_began([math.log(loss) for loss in [0.22, 0.21, 0.23, 0.22, 0.9, 4.0, 7.6, 3.1, 3, 3, 3, 3, 3]], True)
    4
    """
    count = len(log_values)
    if count > EVERY_UP_TO and count % THEN_EVERY and not last:
        return None
    splits = range(LEAST_EARLIER, count - (LEAST_LATER_AT_END if last else LEAST_LATER) + 1)
    least = max(LEAST_RISE, RISE_DEVIATIONS * deviation(log_values)) if splits else math.inf
    found: list[tuple[int, int]] = []  # (values on their side of the limit, index)
    for split in splits:
        low, high = statistics.median(log_values[:split]), statistics.median(log_values[split:])
        below = sum(log_value < (low + high) / 2 for log_value in log_values[:split])
        above = sum(log_value > (low + high) / 2 for log_value in log_values[split:])
        if high - low >= least and below >= BELOW * split and above >= ABOVE * (count - split):
            found.append((below + above, -split))
    return -max(found)[1] if found else None


def deviation(log_values: Sequence[float]) -> float:
    """Robust standard deviation of single values around their level, which may change."""
    steps = [abs(after - before) for before, after in pairwise(log_values)]
    return max(1.4826 * statistics.median(steps) / math.sqrt(2), LEAST_DEVIATION)
