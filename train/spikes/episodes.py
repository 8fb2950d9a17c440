"""From single values to what happened: an episode begins with a flagged value and is named by how it ends.

    isolated          back at its level within 2 steps                            one bad batch
    spike             back within 32
    recovering        still out, but a quarter of the way down (in logs) from where it was within the last 128 values;
                      becomes `recovered`
    not_recovering    still out and not falling; repeated every `rebaseline_after` (32) steps until it ends
    slow_divergence   a trend, without any value that stands out
    non_finite, not_positive, frozen                                              at once

"Back" means: 8 values in a row (32 after more than 8 steps out) none of which is an outlier and whose median lies less
than 1.5 deviations (1 after more than 8 steps out) above the healthy baseline. Nothing enters that baseline while an
episode lasts. So that a second spike on top of the first is seen, values are meanwhile compared with the episode's own
last 32. After `accept_after` steps (twice that while it is recovering) the new level is taken for normal.
"""

import statistics
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from train.spikes.alerts import FAULTS
from train.spikes.detectors import Baseline

RECOVERED_COUNT, RECOVERED_Z = (8, 32), (1.5, 1.0)  # values and deviations: after a short, after a long episode
ISOLATED, SHORT = 2, 8
RECOVERING_RATIO = 0.75
LEVELS = ("shift", "recovering", "not_recovering")  # kinds of episodes that count as long whatever their length


@dataclass
class Episode:
    """What is remembered from a first flagged value until the series is back.

    `healthy` are the logs of the baseline from before, which the methods are given as a `Baseline`.
    """

    since: int
    kind: str | None
    healthy: list[float]
    kept: int = 32
    tail: list[tuple[int, float]] = field(default_factory=list)  # (step, log) of the last `kept` finite values
    values: int = 0
    out: int = 0  # values from the first to the last that stood out
    heights: list[float] = field(default_factory=list)  # of the last 4 times it was named

    def add(self, step: int, log: float, stands_out: bool) -> None:
        """Take in one finite value."""
        self.tail = [*self.tail[-(self.kept - 1) :], (step, log)]
        self.values += 1
        if stands_out:
            self.out = self.values

    def fault(self, kind: str) -> None:
        """Take in a value without a logarithm."""
        self.kind = kind
        self.tail = []
        self.values += 1
        self.out = self.values

    @property
    def long(self) -> bool:
        """True if the end of it takes more to be believed."""
        return self.out > SHORT or self.kind in LEVELS

    @property
    def last_values(self) -> list[tuple[int, float]]:
        """The last values, as many as it takes to be back."""
        return self.tail[-RECOVERED_COUNT[self.long] :]

    def is_back(self, healthy: Baseline, judged: bool) -> bool:
        """True if enough values in a row lie at the healthy level; `judged`: there is one."""
        needed, last = RECOVERED_COUNT[self.long], [log for _, log in self.last_values]
        if len(last) < needed or self.values - self.out < (0 if self.kind == "shift" else needed):
            return False
        return not judged or healthy.height(statistics.median(last)) < RECOVERED_Z[self.long]

    def is_still_out(self, healthy: Baseline) -> bool:
        """False while it may be on its way to being back: a short spike is not to be called a lasting one."""
        last = [log for _, log in self.tail]
        near_baseline = (
            healthy.height(statistics.median(last[-RECOVERED_COUNT[0] :])) < RECOVERED_Z[0] if last else True
        )
        return len(last) == self.kept and not near_baseline

    def final_kind(self) -> str:
        """What it was, now that it has ended."""
        length = self.values - len(self.last_values)
        return self.kind or ("isolated" if length <= ISOLATED else "spike")

    def name(self, healthy: Baseline) -> str:
        """`recovering` if the last 32 values have come down a quarter of the way from the highest 32 lately."""
        height = statistics.fmean(log for _, log in self.tail) - healthy.level()
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
        return cls(**{**known, "tail": [(step, log) for step, log in state["tail"]]})
