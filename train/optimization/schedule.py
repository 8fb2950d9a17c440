"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no scheduler state.

rate = peak * lr_factor(step, total_steps, config.optim)
"""

import math

from configs.training import OptimConfig


def half_cosine(progress: float) -> float:
    """A half cosine from 1 at `progress` 0 to 0 at `progress` 1.

    >>> half_cosine(0.0), round(half_cosine(0.5), 6), half_cosine(1.0)
    (1.0, 0.5, 0.0)
    """
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def warmup_steps(total_steps: int, warmup_ratio: float) -> int:
    """Steps of linear warm-up, rounded up as transformers does."""
    return math.ceil(total_steps * warmup_ratio)


def lr_factor(step: int, total_steps: int, optim: OptimConfig) -> float:
    """The factor on the peak learning rates in optimizer step `step` (counted from 0).

    Warm-up rises linearly from 0 and the cosine falls to 0 at `total_steps`: the values of transformers'
    `get_cosine_schedule_with_warmup`, which LLaVA uses.
    """
    warmup = warmup_steps(total_steps, optim.warmup_ratio)
    if step < warmup:
        return step / warmup
    if optim.schedule == "constant":
        return 1.0
    return half_cosine((step - warmup) / max(1, total_steps - warmup))
