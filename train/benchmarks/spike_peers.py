"""Baselines: published rules for loss spikes, implemented from their descriptions.

Each gets a reading and returns whether it would act on that step. Windows, factors and warm-ups are their defaults;
metaseq's ratio is off by default, 1.5 is our choice. The values they keep in their windows are part of the rule:
OLMo-core keeps outliers and NaN, metaseq does not update on a spike, ZClip averages the clipped value.

    OLMo-core   optim/skip_step_optimizer.py: loss or gradient norm > mean + 6 std of the last 128, from the 64th on
    llm-foundry callbacks/kill_loss_spike_callback.py: loss >= 2 x mean for more than 4 steps in a row, or half of the
                window above min(largest loss of the first window, 10)
    Megatron    core/rerun_state_machine.py: not finite, or >= 10 x the largest of the first 100 losses
    Lightning   fabric/utilities/spike.py: |loss - mean of 10| >= 2 x that mean and higher than the last; not finite
    metaseq     trainer.py skip_spike: loss > 1.5 x its exponential average (0.2)
    ZClip       zclip.py: gradient norm 2.5 deviations above its exponential average (0.97), 25 steps of warm-up
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from train.benchmarks.spike_traces import HEALTHY_LENGTH, Reading


class Rule(Protocol):
    """A rule with its state."""

    def alarms(self, reading: Reading) -> bool:
        """Process a step; True if the rule would act on it."""
        ...


class _Window:
    """Mean and standard deviation of the last `size` values; a NaN stays in both until it leaves the window."""

    def __init__(self, size: int):
        self.values: deque[float] = deque(maxlen=size)

    def limit(self, deviations: float) -> float:
        count = len(self.values)
        mean = sum(self.values) / count
        variance = sum((value - mean) ** 2 for value in self.values) / (count - 1)
        return mean + deviations * math.sqrt(variance)


@dataclass
class OlmoCore:
    """Skips a step unless both numbers lie below their limits (so it skips while a NaN is in the window)."""

    losses: _Window = field(default_factory=lambda: _Window(128))
    norms: _Window = field(default_factory=lambda: _Window(128))

    def alarms(self, reading: Reading) -> bool:
        """Compare with the window, then add the values to it, also outliers and NaN."""
        seen = len(self.losses.values)
        fine = seen < 64 or (reading.loss <= self.losses.limit(6) and reading.grad_norm <= self.norms.limit(6))
        self.losses.values.append(reading.loss)
        self.norms.values.append(reading.grad_norm)
        return not fine


@dataclass
class LlmFoundry:
    """On an alarm raises an error, or logs."""

    window: deque[float] = field(default_factory=lambda: deque(maxlen=max(100, HEALTHY_LENGTH // 20)))
    total: float = 0.0
    cap: float | None = None
    in_a_row: int = 0

    def alarms(self, reading: Reading) -> bool:
        """Both tests begin when the first window is full."""
        size = self.window.maxlen or 0
        if len(self.window) < size:
            self._take(reading.loss)
            return False
        if self.cap is None:
            self.cap = min(max(self.window), 10.0)
        self.in_a_row = self.in_a_row + 1 if reading.loss >= 2 * self.total / size else 0
        self._take(reading.loss)
        if self.in_a_row > 4:
            return True
        return reading.loss > self.cap and sum(loss > self.cap for loss in self.window) >= size / 2

    def _take(self, loss: float) -> None:
        if len(self.window) == self.window.maxlen:
            self.total -= self.window[0]
        self.window.append(loss)
        self.total += loss


@dataclass
class Megatron:
    """On an alarm runs the step again."""

    largest: float = 0.0
    seen: int = 0

    def alarms(self, reading: Reading) -> bool:
        """The largest loss is never updated after the first 100."""
        if not math.isfinite(reading.loss):
            return True
        self.seen += 1
        if self.seen <= 100:
            self.largest = max(self.largest, reading.loss)
            return False
        return reading.loss >= 10 * self.largest


@dataclass
class Lightning:
    """On an alarm raises an exception and logs the batch."""

    window: deque[float] = field(default_factory=lambda: deque(maxlen=10))
    last: float = 0.0

    def alarms(self, reading: Reading) -> bool:
        """A spike is not added to the mean."""
        if not math.isfinite(reading.loss):
            return True
        mean = sum(self.window) / len(self.window) if self.window else reading.loss
        spike = abs(reading.loss - mean) >= 2 * mean and reading.loss > self.last
        self.last = reading.loss
        if not spike:
            self.window.append(reading.loss)
        return spike


@dataclass
class Metaseq:
    """On an alarm lowers the learning rate for the step."""

    mean: float | None = None

    def alarms(self, reading: Reading) -> bool:
        """A comparison with NaN is false, so NaN raises no alarm and stays in the average for ever."""
        if self.mean is not None and reading.loss / self.mean > 1.5:
            return True
        self.mean = reading.loss if self.mean is None else 0.8 * self.mean + 0.2 * reading.loss
        return False


@dataclass
class ZClip:
    """Clips the gradient norm; every clipped step counts as an alarm."""

    first: list[float] = field(default_factory=list)
    mean: float = 0.0
    variance: float = 0.0

    def alarms(self, reading: Reading) -> bool:
        """Updates the average with the clipped value."""
        norm = reading.grad_norm
        if len(self.first) < 25:
            self.first.append(norm)
            self.mean = sum(self.first) / len(self.first)
            self.variance = sum((value - self.mean) ** 2 for value in self.first) / len(self.first)
            return False
        deviation = math.sqrt(self.variance) + 1e-6
        z = (norm - self.mean) / deviation
        if z > 2.5:
            norm = self.mean + 2.5 * deviation / (z / 2.5)
        self.mean = 0.97 * self.mean + 0.03 * norm
        self.variance = 0.97 * self.variance + 0.03 * (norm - self.mean) ** 2
        return z > 2.5


PEERS = {
    "OLMo-core": OlmoCore,
    "llm-foundry": LlmFoundry,
    "Megatron": Megatron,
    "Lightning": Lightning,
    "metaseq": Metaseq,
    "ZClip": ZClip,
}
"""Name to class of each rule."""
