"""Two tests of one series of positive numbers: is a value an outlier, and does the level rise slowly?

Both work on logarithms, so that "twice as high" means the same at loss 3 and at loss 0.03. The unit of z is a robust
deviation: 1.4826 x MAD, at least 0.02; for single values max(that, (95 % quantile - median) / 1.645), which is larger
for a heavy upper tail. For a Gaussian both equal its standard deviation.

`Baseline` holds the last `window` (128) healthy values; z is the distance from their median. While the loss falls by
orders of magnitude, as in a run's first hundreds of steps, the fall itself makes the window's spread large. So the
baseline also holds each value's distance from the median of the 16 before it (its jump). If the deviation of the jumps
is less than 3/4 of the window's (in plain noise it is 1.05 of it), the z of a single value is the larger of two: the
one above, and its distance from the median of the last 16 in deviations of the jumps. Three rules test a new value
together with those before it:

    outlier   z > 8                                     one bad batch: at the step itself
    shift     median of the last 5 z > 4                a jump: 3 steps after z reaches 4
              mean of the last 8 z, cut to +-4, > 2.6   a ramp
              mean of the last 32 z, cut to +-4, > 1.5  labels 40 % worse within 15 % of noise: some 25 steps

`Trend` detects a rise that is within the noise at every step: it compares the mean of the last 128 values with the
lowest mean of 256 values so far; more than 6 standard errors (and 3 %) above it is a slow divergence.

Source of the numbers: a t3-distributed logarithm (the heaviest tail we expect) exceeds 8 such deviations 10 times in
10,000, a Gaussian practically never; 3 of 5 t3 values above 4 happen once in 100,000 steps; the mean of n healthy z
relative to a median of 128 has the variance 1/n + pi/256, and 2.6 and 1.5 are 7 of its deviations. They are computed
from these probabilities, not fitted to a trace.

Before there is a baseline, `train.spikes.early` looks for a risen level.

Limits: while the loss still falls steeply, a shift or a trend within the window's spread raises no alarm; a value of 8
deviations above the last 16 does.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

LEAST_DEVIATION = 0.02
RECENT, LEAST_JUMPS, TRENDING = 16, 32, 0.75
JUMP_OF, JUMP_Z = 5, 4.0
MEANS, MEAN_CUT = ((8, 2.6), (32, 1.5)), 4.0
BLOCK, RECENT_BLOCKS, BEST_BLOCKS = 32, 4, 8
RISE_ERRORS, LEAST_RISE = 6.0, 0.03
_RISE_SCALE = math.sqrt(1 / (BLOCK * RECENT_BLOCKS) + 1 / (BLOCK * BEST_BLOCKS))


class Spread:
    """The newest `size` values of a series, also sorted, with their median and deviations."""

    def __init__(self, size: int):
        """Empty."""
        self.values: deque[float] = deque(maxlen=size)
        self._sorted: list[float] = []
        self._scale: tuple[float, float, float] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        """Add a value; a full window drops its oldest."""
        if len(self.values) == self.values.maxlen:
            del self._sorted[bisect_left(self._sorted, self.values[0])]
        self.values.append(value)
        insort(self._sorted, value)
        self._scale = None

    def scale(self) -> tuple[float, float, float]:
        """(median, deviation of levels, deviation of single values)."""
        if self._scale is None:
            ordered, count = self._sorted, len(self._sorted)
            median = _middle(ordered)
            mad = _middle(sorted([abs(value - median) for value in ordered]))
            deviation = max(1.4826 * mad, LEAST_DEVIATION)
            upper = ordered[round(0.95 * (count - 1))] - median
            self._scale = median, deviation, max(deviation, upper / 1.645)
        return self._scale


class Baseline:
    """Logarithms of the last `size` healthy values: their spread, and that of their jumps (from the 16 before)."""

    def __init__(self, size: int, values: Iterable[float] = ()):
        """`values` are logarithms, oldest first; of more than `size` the newest are kept.

        The first 16 values have no jump, so the whole state can be rebuilt from the kept values.
        """
        self._levels = Spread(size)
        self._jumps = Spread(max(1, size - RECENT))
        self._recent: float | None = None
        for value in values:
            self.add(value)

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def values(self) -> deque[float]:
        """The logarithms, oldest first."""
        return self._levels.values

    def add(self, log_value: float) -> None:
        """Add a healthy value; a full window drops its oldest."""
        if len(self) >= RECENT:
            self._jumps.add(log_value - self.recent())
        self._levels.add(log_value)
        self._recent = None

    def recent(self) -> float:
        """Median of the last 16."""
        if self._recent is None:
            self._recent = _middle(sorted(islice(reversed(self.values), RECENT)))
        return self._recent

    def scale(self) -> tuple[float, float, float]:
        """(median, deviation of levels, deviation of single values)."""
        return self._levels.scale()

    def level(self) -> float:
        """Current level of the series: its median, or the recent median if the series falls."""
        median = self.scale()[0]
        return min(median, self.recent()) if self._trending else median

    def z(self, log_value: float) -> float:
        """Deviations of a single value above the median or above the last 16, whichever is larger."""
        median, _, deviation = self.scale()
        z = (log_value - median) / deviation
        return max(z, (log_value - self.recent()) / self._jumps.scale()[2]) if self._trending else z

    def log_at(self, z: float) -> float:
        """Inverse of `z`, for z > 0."""
        median, _, deviation = self.scale()
        log_value = median + z * deviation
        return min(log_value, self.recent() + z * self._jumps.scale()[2]) if self._trending else log_value

    def level_z(self, log_value: float) -> float:
        """Deviations of a value above the median, for values that are averaged afterwards."""
        median, deviation, _ = self.scale()
        return (log_value - median) / deviation

    def height(self, log_value: float) -> float:
        """Deviations of a level above the median or above the last 16, whichever is larger."""
        z = self.level_z(log_value)
        return max(z, (log_value - self.recent()) / self._jumps.scale()[1]) if self._trending else z

    @property
    def _trending(self) -> bool:
        """True if the window's spread is clearly larger than that of the jumps: it comes from a trend."""
        if len(self._jumps) < LEAST_JUMPS:
            return False
        return self._jumps.scale()[2] < TRENDING * self._levels.scale()[2]


def _middle(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@dataclass
class Shift:
    """Tests whether the level has risen although no single value is an outlier."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=MEANS[-1][0]))
    steps: deque[int] = field(default_factory=lambda: deque(maxlen=JUMP_OF))  # of the last 5

    def check(self, step: int, z: float) -> bool:
        """Add a z; True if the last 5, 8 or 32 together show a shift."""
        self.recent.append(min(max(z, -MEAN_CUT), MEAN_CUT + JUMP_Z))
        self.steps.append(step)
        last = list(self.recent)
        if sum(value > JUMP_Z for value in last[-JUMP_OF:]) > JUMP_OF // 2:
            return True
        cut = [min(value, MEAN_CUT) for value in last]
        return any(len(cut) >= count and sum(cut[-count:]) > limit * count for count, limit in MEANS)

    def began(self) -> int:
        """The first step among the last 5 whose z is above 4; the last step if there is none."""
        high = [step for step, z in zip(reversed(self.steps), reversed(self.recent), strict=False) if z > JUMP_Z]
        return min(high, default=self.steps[-1])


@dataclass
class Trend:
    """Tests whether the mean of the last 128 values is clearly above the lowest mean of 256 values so far."""

    total: float = 0.0
    count: int = 0
    blocks: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_BLOCKS + BEST_BLOCKS))
    best: float = math.inf
    rising: bool = False

    def check(self, log_value: float, baseline: Baseline) -> bool | None:
        """Add a value; at the end of each block of 32 return whether the level has risen, otherwise None.

        Values are cut to 3 deviations around the baseline's median, so that single outliers cannot dominate a mean.
        A rise ends when the mean is less than half the limit above the lowest mean.
        """
        median, deviation, _ = baseline.scale()
        self.total += min(max(log_value, median - 3 * deviation), median + 3 * deviation)
        self.count += 1
        if self.count < BLOCK:
            return None
        self.blocks.append(self.total / BLOCK)
        self.total, self.count = 0.0, 0
        if len(self.blocks) < RECENT_BLOCKS + BEST_BLOCKS:
            return None
        ordered = list(self.blocks)
        self.best = min(self.best, sum(ordered[:BEST_BLOCKS]) / BEST_BLOCKS)
        rise = sum(ordered[BEST_BLOCKS:]) / RECENT_BLOCKS - self.best
        limit = max(LEAST_RISE, RISE_ERRORS * deviation * _RISE_SCALE)
        self.rising = rise > (limit / 2 if self.rising else limit)
        return self.rising

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        best = None if math.isinf(self.best) else self.best
        return {**vars(self), "blocks": list(self.blocks), "best": best}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Trend":
        """Inverse of `state_dict`."""
        trend = cls(state["total"], state["count"], rising=state["rising"])
        trend.blocks.extend(state["blocks"])
        trend.best = math.inf if state["best"] is None else state["best"]
        return trend
