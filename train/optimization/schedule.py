"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no scheduler state.

rate = peak * lr_factor(step, total_steps, config.optim)
"""

import math

from configs.errors import ConfigError
from configs.training import OptimConfig


def half_cosine(progress: float) -> float:
    """A half cosine from 1 at `progress` 0 to 0 at `progress` 1.

    >>> half_cosine(0.0), round(half_cosine(0.5), 6), half_cosine(1.0)
    (1.0, 0.5, 0.0)
    """
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def warmup_steps(total_steps: int, optim: OptimConfig) -> int:
    """Steps of linear warm-up: `warmup_steps`, or the share `warmup_ratio`, rounded up as transformers does."""
    if optim.warmup_steps is not None:
        return optim.warmup_steps
    return math.ceil(total_steps * optim.warmup_ratio)


def check_warmup(total_steps: int, optim: OptimConfig) -> None:
    """Raise `ConfigError` if the run ends before the learning rate has reached its peak."""
    if optim.warmup_steps is not None and optim.warmup_steps >= total_steps:
        raise ConfigError(
            f"optim.warmup_steps is {optim.warmup_steps:,} and the run has {total_steps:,} steps, so the learning rate "
            "would never reach its peak; train for more epochs, or set warmup_steps to null (then warmup_ratio counts)"
        )


def lr_factor(step: int, total_steps: int, optim: OptimConfig) -> float:
    """The factor on the peak learning rates in optimizer step `step` (counted from 0).

    Warm-up rises linearly from 0 and the cosine falls to 0 at `total_steps`: the values of transformers'
    `get_cosine_schedule_with_warmup`, which LLaVA uses.
    """
    warmup = warmup_steps(total_steps, optim)
    if step < warmup:
        return step / warmup
    if optim.schedule == "constant":
        return 1.0
    return half_cosine((step - warmup) / max(1, total_steps - warmup))
