"""The loss-spike monitor: pure Python, numbers in, verdicts out, state in the checkpoint.

Each data source has its own detector, since one source may spike alone and since a mixture's sources have different
losses: one baseline over both would alarm at every change of mixture. A detector watches log loss; one more
watches the log of the global gradient norm. Its rules:

- non-finite, zero or negative, or frozen values (the same loss 8 times in a row) are flagged at once;
- an outlier lies more than `threshold` robust deviations (1.4826 x MAD of the last `window` healthy values, at least
  2 % of a unit of log) above the median;
- nothing flagged enters the baseline; after `reseed_after` outliers in a row the change is lasting ("never
  recovered"), and the baseline starts anew from the new level.

Background: "Why are Visually-Grounded Language Models Bad at Image Classification?", Section 3.3 and Figure 5.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.schema import MonitorConfig

FROZEN_AFTER = 8
LEAST_DEVIATION = 0.02
GRAD_NORM = "grad_norm"


@dataclass(frozen=True)
class Verdict:
    """One thing the monitor has to say. `kind` is `non_finite`, `not_positive`, `frozen`, `outlier`, `recovered` or
    `lasting_change`; `signal` is `loss/SOURCE` or `grad_norm`; `value` what was seen; `score` the robust z-score.
    """

    step: int
    signal: str
    kind: str
    value: float
    score: float | None = None
    since: int | None = None

    def message(self) -> str:
        """One line for people."""
        score = f" ({self.score:+.1f} robust deviations)" if self.score is not None else ""
        since = f", since step {self.since}" if self.since is not None else ""
        return f"{self.signal}: {self.kind.replace('_', ' ')} at step {self.step}: {self.value:.6g}{score}{since}"


@dataclass
class Detector:
    """Watches one series of positive numbers."""

    signal: str
    config: MonitorConfig
    window: deque[float] = field(default_factory=deque)
    flagged_in_a_row: list[float] = field(default_factory=list)
    spike_began: int | None = None
    last: float | None = None
    same: int = 0

    def observe(self, step: int, value: float) -> list[Verdict]:
        """Judge one value."""
        if not math.isfinite(value):
            return [Verdict(step, self.signal, "non_finite", value)]
        if value <= 0:
            return [Verdict(step, self.signal, "not_positive", value)]
        self.same = self.same + 1 if value == self.last else 1
        self.last = value
        if self.same >= FROZEN_AFTER:
            return [Verdict(step, self.signal, "frozen", value)] if self.same == FROZEN_AFTER else []
        return self._judge(step, value)

    def _judge(self, step: int, value: float) -> list[Verdict]:
        log = math.log(value)
        if len(self.window) < self.config.warmup:
            self._admit(log)
            return []
        score = self._score(log)
        if score <= self.config.threshold:
            self._admit(log)
            self.flagged_in_a_row.clear()
            began, self.spike_began = self.spike_began, None
            return [] if began is None else [Verdict(step, self.signal, "recovered", value, score, began)]
        self.flagged_in_a_row.append(log)
        self.spike_began = step if self.spike_began is None else self.spike_began
        verdicts = [Verdict(step, self.signal, "outlier", value, score, self.spike_began)]
        if len(self.flagged_in_a_row) >= self.config.reseed_after:
            verdicts.append(Verdict(step, self.signal, "lasting_change", value, score, self.spike_began))
            self.window = deque(self.flagged_in_a_row[-self.config.window :])
            self.flagged_in_a_row, self.spike_began = [], None
        return verdicts

    def _score(self, log: float) -> float:
        median = statistics.median(self.window)
        deviation = 1.4826 * statistics.median(abs(value - median) for value in self.window)
        return (log - median) / max(deviation, LEAST_DEVIATION)

    def _admit(self, log: float) -> None:
        self.window.append(log)
        if len(self.window) > self.config.window:
            self.window.popleft()

    def state(self) -> dict[str, Any]:
        """JSON-able state."""
        return {
            "window": list(self.window),
            "flagged_in_a_row": self.flagged_in_a_row,
            "spike_began": self.spike_began,
            "last": self.last,
            "same": self.same,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.window = deque(state["window"])
        self.flagged_in_a_row = list(state["flagged_in_a_row"])
        self.spike_began, self.last, self.same = state["spike_began"], state["last"], state["same"]


class SpikeMonitor:
    """One detector per data source and one for the gradient norm."""

    def __init__(self, config: MonitorConfig):
        """Start without a history."""
        self.config = config
        self.detectors: dict[str, Detector] = {}

    def observe(self, step: int, losses: Mapping[str, float], grad_norm: float | None) -> list[Verdict]:
        """Judge one step: mean loss of each source that stood in the batch, and the global gradient norm."""
        if not self.config.enabled:
            return []
        signals = {f"loss/{source}": loss for source, loss in losses.items()}
        if grad_norm is not None:
            signals[GRAD_NORM] = grad_norm
        verdicts = []
        for signal, value in signals.items():
            detector = self.detectors.setdefault(signal, Detector(signal, self.config))
            verdicts.extend(detector.observe(step, value))
        return verdicts

    def state(self) -> dict[str, Any]:
        """JSON-able state of all detectors, for the checkpoint."""
        return {signal: detector.state() for signal, detector in self.detectors.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        for signal, saved in state.items():
            self.detectors[signal] = Detector(signal, self.config)
            self.detectors[signal].load(saved)
