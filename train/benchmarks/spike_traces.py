"""Synthetic loss curves with known faults: 4 kinds of noise x 14 faults, keyed by (noise, seed).

A trace is 8,500 steps of a power-law loss, 0.3 + 2 (1 + step/50)^-0.35, and a gradient norm; a fault begins at step
6,000. Noise multiplies: `gaussian` 1 + 3 %, `lognormal` 15 %, `heavy` exp(0.1 t3), and `bimodal`, where each batch
comes from one of two sources whose losses (x0.3 or x1.2) and norms (x2 or x0.7) differ, each with 10 %. The norm has
a second draw of the regime's noise times separate log-normal noise of 30 %.

    for reading in Trace("heavy", seed=3, fault=FAULTS["fast"]).readings(): ...
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

REGIMES = ("gaussian", "lognormal", "heavy", "bimodal")
FAULT_AT, LENGTH, HEALTHY_LENGTH = 6000, 8500, 10_000


@dataclass(frozen=True)
class Reading:
    """The input of a monitor for one step."""

    step: int
    losses: dict[str, float]
    grad_norm: float

    @property
    def loss(self) -> float:
        """The batch's loss: each of these batches has one source."""
        return next(iter(self.losses.values()))


@dataclass(frozen=True)
class Fault:
    """`loss(age)` and `norm(age)` are the factors `age` steps after the fault began (NaN allowed).

    `most_delay` is the maximum delay of detection in steps, None: any; `recovers`: healthy at the end.
    """

    loss: Callable[[int], float]
    norm: Callable[[int], float]
    recovers: bool
    most_delay: int | None
    creeping: bool = False  # only an alert about the level counts as detection, not one about a single value
    at: tuple[int, ...] = (0,)  # ages at which an alarm is due


def _one(_: int) -> float:
    return 1.0


def _pulse(height: float, *ages: int) -> Callable[[int], float]:
    return lambda age: height if age in ages else 1.0


def _decay(height: float, steps: float) -> Callable[[int], float]:
    return lambda age: 1 + (height - 1) * math.exp(-age / steps)


def _ramp(age: int) -> float:
    """Rises to x4 over 50 steps, stays for 100, falls with a time constant of 50."""
    if age < 150:
        return 1 + 3 * min(age / 50, 1.0)
    return 1 + 3 * math.exp(-(age - 150) / 50)


def _norm_of(loss: Callable[[int], float], power: float) -> Callable[[int], float]:
    return lambda age: loss(age) ** power


def _masked(first: float, second: float) -> Callable[[int], float]:
    return lambda age: {0: first, 40: second}.get(age, 1.0)


FAULTS: dict[str, Fault] = {
    "poison x3": Fault(_pulse(3, 0), _pulse(30, 0), True, 0),
    "poison x6": Fault(_pulse(6, 0), _pulse(30, 0), True, 0),
    "fast spike": Fault(_decay(3, 20), _norm_of(_decay(3, 20), 2), True, 5),
    "slow spike": Fault(_decay(2.5, 300), _norm_of(_decay(2.5, 300), 1), True, 5),
    "never recovers": Fault(lambda _: 6.7, _decay(5, 20), False, 5),
    "rate ramp": Fault(_ramp, _norm_of(_ramp, 1), True, 25),
    "labels +40 %": Fault(lambda age: 1.4 if age < 200 else 1.0, _one, True, None, creeping=True),
    "slow +0.1 %": Fault(lambda age: 1.001**age, _one, False, 350, creeping=True),
    "slow +0.02 %": Fault(lambda age: 1.0002**age, _one, False, 1000, creeping=True),
    "NaN once": Fault(_pulse(math.nan, 0), _pulse(math.nan, 0), True, 0),
    "NaN for ever": Fault(lambda _: math.nan, lambda _: math.nan, False, 0),
    "norm x50": Fault(_one, _pulse(50, 0), True, 0),
    "masked second": Fault(_masked(8, 3), _masked(30, 30), True, 0, at=(0, 40)),
    "frozen at 0": Fault(lambda _: 0.0, lambda _: 0.0, False, 0),
}
"""The 14 faults by name."""


def power_law(step: int) -> float:
    """The loss without noise."""
    return 0.3 + 2.0 * math.pow(1 + step / 50, -0.35)


@dataclass(frozen=True)
class Trace:
    """One run. `fault` None: a healthy one of 10,000 steps."""

    regime: str
    seed: int
    fault: Fault | None = None

    def readings(self, start: int = 0) -> Iterator[Reading]:
        """Every step from `start` on; the noise of a step is the same for every fault."""
        for step in range(start, LENGTH if self.fault else HEALTHY_LENGTH):
            draw = random.Random(f"{self.regime} {self.seed} {step}")
            source, loss, norm = self._healthy(step, draw)
            if self.fault and step >= FAULT_AT:
                loss *= self.fault.loss(step - FAULT_AT)
                norm *= self.fault.norm(step - FAULT_AT)
            yield Reading(step, {source: loss}, norm)

    def _healthy(self, step: int, draw: random.Random) -> tuple[str, float, float]:
        loss, norm = power_law(step), draw.lognormvariate(0, 0.3)
        if self.regime == "bimodal":
            short = draw.random() < 0.5
            loss *= (0.3 if short else 1.2) * draw.lognormvariate(0, 0.1)
            norm *= (2.0 if short else 0.7) * draw.lognormvariate(0, 0.1)
            return ("short" if short else "long"), loss, norm
        return "all", loss * self._noise(draw), norm * self._noise(draw)

    def _noise(self, draw: random.Random) -> float:
        if self.regime == "gaussian":
            return max(0.5, draw.gauss(1, 0.03))
        if self.regime == "lognormal":
            return draw.lognormvariate(0, 0.15)
        chi = sum(draw.gauss(0, 1) ** 2 for _ in range(3)) / 3
        return math.exp(0.1 * draw.gauss(0, 1) / math.sqrt(chi))
