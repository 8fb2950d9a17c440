"""AdamW with a gate: a skipped step leaves weights, moments and step counts unchanged.

In ZeRO 1 to 3 the global gradient norm exists only inside DeepSpeed's `step`, just before it calls this optimizer once
for each shard. So this optimizer is the only code in which a step can be skipped in every stage. In most combinations
DeepSpeed skips steps with a non-finite norm itself, but not in fp32 without ZeRO, where one rank's NaN would spread to
every weight in one step.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from train.optimization.update_clip import UpdateClip, shrink


@dataclass
class Gate:
    """Decides whether one optimizer step is applied. `norm` reads the global gradient norm, equal on all ranks."""

    norm: Callable[[], Any] | None = None
    limit: float = math.inf
    always_open: bool = False  # also for non-finite norms: benchmarks show with it what the gate prevents
    applied: bool = False
    _passes: bool | None = None

    @property
    def norm_requested(self) -> bool:
        """False if DeepSpeed skipped the step before it called this optimizer."""
        return self._passes is not None

    def prepare(self, limit: float) -> None:
        """Begin a step, which is applied if its norm is finite and at most `limit`."""
        self.limit, self.applied, self._passes = limit, False, None

    def passes(self) -> bool:
        """Whether the step is applied. ZeRO calls this for every shard; the norm is read once."""
        if self.norm is None:
            return True  # during DeepSpeed's initialisation
        if self._passes is None:
            norm = float(self.norm())
            self._passes = self.always_open or (math.isfinite(norm) and 0 <= norm <= self.limit)
        self.applied = self._passes
        return self._passes


class GatedAdamW(torch.optim.AdamW):
    """torch's AdamW with a `Gate`; with `measure` it also sums the squares of its updates."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, measure: bool = False, **settings: Any):
        """`settings` are AdamW's; with `measure`, `squares` is this rank's part of the last step's |update|^2."""
        super().__init__(groups, **settings)
        self.gate = Gate()
        self.clip: UpdateClip | None = None
        self.measure = measure
        self.squares = 0.0

    def step(self, closure: Any = None) -> Any:
        """AdamW's step, or no change if the gate is closed."""
        if not self.gate.passes():
            return None
        prepared = self.clip.prepare(self) if self.clip else []
        result = super().step(closure)
        shrink(prepared)
        if self.measure:
            self.squares += self._squares()
        return result

    @torch.no_grad()
    def _squares(self) -> float:
        """Sum of (rate x m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps))^2 over the parameters stepped just now."""
        parts: list[
            torch.Tensor
        ] = []  # summed at the end: one synchronisation with the GPU instead of one for each parameter
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                saved = self.state.get(parameter)
                if parameter.grad is None or not saved:
                    continue
                steps = float(saved["step"])
                root = (saved["exp_avg_sq"] / (1 - beta2**steps)).sqrt_().add_(group["eps"])
                ratio = (saved["exp_avg"] / root).square_()
                for part, factor in self.clip.factors_of(parameter) if self.clip else ():
                    part.of(ratio).mul_(factor**2)
                parts.append(ratio.sum() * (float(group["lr"]) / (1 - beta1**steps)) ** 2)
        return float(torch.stack(parts).sum()) if parts else 0.0
