"""Episodes: an episode begins with a flagged value, and how it continues and ends decides its kind.

    isolated          back to the healthy level within 2 steps (one bad batch)
    spike             back within 32
    recovering        still high, but a quarter (in logarithms) lower than its highest within the last 128 values;
                      becomes `recovered`
    not_recovering    still high and not falling; repeated every `rebaseline_after` (32) steps until it ends
    slow_divergence   a trend without any outlier
    non_finite, not_positive, frozen    the kind of the value, from its first step

"Back" means: 8 values in a row (32 in an episode of more than 8 steps) without an outlier, whose median is less than
1.5 deviations (1 in an episode of more than 8 steps) above the healthy baseline. No value enters that baseline during
an episode. So that a second spike on top of the first is detected, values are compared with the episode's own last 32.
After `accept_after` steps (twice that while it is recovering) the new level is accepted as normal.
"""

import statistics
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from train.spikes.alerts import FAULTS
from train.spikes.detectors import Baseline

RECOVERED_COUNT, RECOVERED_Z = (8, 32), (1.5, 1.0)  # number of values and deviations: in a short, in a long episode
ISOLATED, SHORT = 2, 8
RECOVERING_RATIO = 0.75
LEVELS = ("shift", "recovering", "not_recovering")  # kinds of episodes that always count as long


@dataclass
class Episode:
    """The state from the first flagged value until the series is back.

    `healthy` are the logarithms of the baseline before the episode; methods get them as a `Baseline`.
    """

    since: int
    kind: str | None
    healthy: list[float]
    kept: int = 32
    tail: list[tuple[int, float]] = field(default_factory=list)  # (step, log_value) of the last `kept` finite values
    values: int = 0
    out: int = 0  # values from the first to the last outlier
    heights: list[float] = field(default_factory=list)  # height above the baseline at the last 4 calls of `name`
    early: bool = False  # began before there was a baseline: `healthy` are the few steps before it

    def add(self, step: int, log_value: float, is_outlier: bool) -> None:
        """Add one finite value."""
        self.tail = [*self.tail[-(self.kept - 1) :], (step, log_value)]
        self.values += 1
        if is_outlier:
            self.out = self.values

    def fault(self, kind: str) -> None:
        """Add a value without a logarithm."""
        self.kind = kind
        self.tail = []
        self.values += 1
        self.out = self.values

    @property
    def long(self) -> bool:
        """True if more values are needed to decide that it has ended."""
        return self.out > SHORT or self.kind in LEVELS

    @property
    def last_values(self) -> list[tuple[int, float]]:
        """The last values, as many as are needed to decide that it has ended."""
        return self.tail[-RECOVERED_COUNT[self.long] :]

    def is_back(self, healthy: Baseline, judged: bool) -> bool:
        """True if enough values in a row are at the healthy level; `judged`: the healthy baseline has enough values."""
        needed, last = RECOVERED_COUNT[self.long], [log_value for _, log_value in self.last_values]
        if len(last) < needed or self.values - self.out < (0 if self.kind == "shift" else needed):
            return False
        return not judged or healthy.height(statistics.median(last)) < RECOVERED_Z[self.long]

    def is_still_out(self, healthy: Baseline) -> bool:
        """False while the last values may be the end of it: a short spike is not reported as persistent."""
        last = [log_value for _, log_value in self.tail]
        near_baseline = (
            healthy.height(statistics.median(last[-RECOVERED_COUNT[0] :])) < RECOVERED_Z[0] if last else True
        )
        return len(last) == self.kept and not near_baseline

    def final_kind(self) -> str:
        """The kind of an episode that has ended."""
        length = self.values - len(self.last_values)
        return self.kind or ("isolated" if length <= ISOLATED else "spike")

    def name(self, healthy: Baseline) -> str:
        """`recovering` if the mean of the last 32 values is a quarter below its highest of the last 4 calls."""
        height = statistics.fmean(log_value for _, log_value in self.tail) - healthy.level()
        kind = "recovering" if height < RECOVERING_RATIO * max([*self.heights, height]) else "not_recovering"
        self.heights = [*self.heights[-3:], height]
        if self.kind not in FAULTS:
            self.kind = kind
        return kind

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Episode":
        """Inverse of `state_dict`."""
        known = {each.name: state[each.name] for each in fields(cls) if each.name in state}
        return cls(**{**known, "tail": [(step, log_value) for step, log_value in state["tail"]]})
