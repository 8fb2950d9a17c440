"""What a finished run's metrics say of it: did anything train, and does its loss end above where it began?

Functions of the records in metrics.jsonl, which holds the steps of all starts of a run.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from train.spikes.early import deviation

EDGE = 10  # logged steps at each end
LEAST_STEPS = 6  # of a source, fewer say nothing
LEAST_RISE, ERRORS = 0.05, 4.0  # in logs; in standard errors of the difference of two medians
MEDIAN_VARIANCE = math.pi / 2  # of a median, in units of a mean's


@dataclass
class _Edges:
    """The first and the last losses of a source, as logs."""

    first: list[float] = field(default_factory=list)
    last: deque[float] = field(default_factory=lambda: deque(maxlen=EDGE))
    count: int = 0

    def add(self, loss: float) -> None:
        if len(self.first) < EDGE:
            self.first.append(math.log(loss))
        self.last.append(math.log(loss))
        self.count += 1

    def rise(self) -> tuple[float, float, int] | None:
        """(loss at the beginning, at the end, steps of each) if the end is clearly higher."""
        size = min(EDGE, self.count // 2)
        if self.count < LEAST_STEPS:
            return None
        first, last = self.first[:size], list(self.last)[-size:]
        error = max(deviation(first), deviation(last)) * math.sqrt(2 * MEDIAN_VARIANCE / size)
        before, after = statistics.median(first), statistics.median(last)
        risen = after - before > max(LEAST_RISE, ERRORS * error)
        return (math.exp(before), math.exp(after), size) if risen else None


def trained_anything(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a step with a gradient above zero was applied; True if there is no record."""
    known = False
    for record in records:
        known = True
        if not record.get("skipped") and (record.get("grad_norm") or 0.0) > 0:
            return True
    return not known


def losses_above_start(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each source whose loss ends above where it began."""
    edges: dict[str, _Edges] = {}
    for record in records:
        for source, loss in record.get("loss_by_source", {}).items():
            if isinstance(loss, float | int) and math.isfinite(loss) and loss > 0:
                edges.setdefault(source, _Edges()).add(loss)
    return [
        f"the loss of {source} is {rise[1]:.3g} in the last {rise[2]} logged steps and was {rise[0]:.3g} in the first "
        f"{rise[2]}: the model is worse on it than before the training"
        for source, each in edges.items()
        if (rise := each.rise())
    ]
