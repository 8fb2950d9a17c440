"""Finds ranks that slow the others down, from each rank's own seconds in every step (pure).

    >>> rule = Stragglers(factor=2.0, floor=0.1)
    >>> for step in range(4):
    ...     assert rule.observe([1.0, 1.0, 3.0, 1.0], step_s=3.5) == []
    >>> rule.observe([1.0, 1.0, 3.0, 1.0], step_s=3.5)
    [Straggler(rank=2, score=3.0, seconds=2.0)]

Own seconds: waiting for data, forward passes, and time the process was suspended. The floor keeps the noise of the
operating system, some hundredths of a second, from being reported in runs with short steps.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

STEPS = 5  # consecutive slow steps after which a rank is a straggler, and normal ones after which it is not
SHARE = 0.1  # minimum cost, as a fraction of the step's time
AT_ONCE = 10.0  # seconds lost in a single step that are reported without waiting for `STEPS` steps


@dataclass(frozen=True)
class Straggler:
    """A slow rank: `score` times the median of the others, at a cost of `seconds` per step."""

    rank: int
    score: float
    seconds: float


@dataclass
class Stragglers:
    """Tests every step. A straggler is reported once, and again only after `STEPS` normal steps in between.

    It takes at least `factor` times the median of the others and costs at least `floor` seconds a step.
    """

    factor: float
    floor: float
    slow: dict[int, int] = field(default_factory=dict)  # rank: slow steps in a row
    normal: dict[int, int] = field(default_factory=dict)  # reported rank: normal steps in a row

    def observe(self, seconds: Sequence[float], step_s: float) -> list[Straggler]:
        """Ranks that became stragglers in this step; `seconds` has each rank's own, `step_s` is the whole step's."""
        found, ordered = [], sorted(seconds)
        for rank, own in enumerate(seconds):
            usual = _median_without(own, ordered)
            lost = own - usual
            is_slow = own >= self.factor * usual and lost >= max(SHARE * step_s, self.floor)
            self.slow[rank] = self.slow.get(rank, 0) + 1 if is_slow else 0
            if rank in self.normal:
                self._forget_when_normal(rank, is_slow)
            elif self.slow[rank] >= STEPS or (is_slow and lost >= AT_ONCE):
                self.normal[rank] = 0
                found.append(Straggler(rank, own / max(usual, 1e-9), lost))
        return found

    def _forget_when_normal(self, rank: int, is_slow: bool) -> None:
        self.normal[rank] = 0 if is_slow else self.normal[rank] + 1
        if self.normal[rank] >= STEPS:
            del self.normal[rank]


def _median_without(value: float, ordered: Sequence[float]) -> float:
    """The median of sorted numbers, one `value` left out; the value itself if it is the only one.

    >>> _median_without(5.0, [1.0, 2.0, 5.0, 7.0])
    2.0
    """
    gone, left = bisect_left(ordered, value), len(ordered) - 1
    middle = [ordered[place + (place >= gone)] for place in ((left - 1) // 2, left // 2) if left]
    return sum(middle) / 2 if middle else value
