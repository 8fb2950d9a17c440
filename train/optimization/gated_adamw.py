"""AdamW with a gate: a skipped step leaves weights, moments and step counts unchanged.

In ZeRO 1 to 3 the global gradient norm exists only inside DeepSpeed's `step`, just before it calls this optimizer once
for each shard. So this optimizer is the only code in which a step can be skipped in every stage. In most combinations
DeepSpeed skips steps with a non-finite norm itself, but not in fp32 without ZeRO, where one rank's NaN would spread to
every weight in one step.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from train.optimization.tensor_lists import UpdateCounts, stepped_pieces, with_gradient
from train.optimization.update_clip import UpdateClip


@dataclass
class Gate:
    """Decides whether one optimizer step is applied. `norm` reads the global gradient norm, equal on all ranks."""

    norm: Callable[[], Any] | None = None
    limit: float = math.inf
    always_open: bool = False  # also for non-finite norms: benchmarks show with it what the gate prevents
    applied: bool = False
    norm_read: float | None = None  # None if DeepSpeed skipped the step before it called this optimizer

    def prepare(self, limit: float) -> None:
        """Begin a step, which is applied if its norm is finite and at most `limit`."""
        self.limit, self.applied, self.norm_read = limit, False, None

    def passes(self) -> bool:
        """Whether the step is applied. ZeRO calls this for every shard; the norm is read once."""
        if self.norm is None:
            return True  # during DeepSpeed's initialisation
        if self.norm_read is None:
            self.norm_read = norm = float(self.norm())
            self.applied = self.always_open or (math.isfinite(norm) and 0 <= norm <= self.limit)
        return self.applied


class GatedAdamW(torch.optim.AdamW):
    """torch's fused AdamW with a `Gate`; with `measure` it also sums the squares of its updates.

    A step launches a few kernels for all parameters together and waits for the GPU only where an update clip is set.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, measure: bool = False, **settings: Any):
        """`settings` are AdamW's; with `measure`, `take_squares` gives this rank's part of the last step's |update|^2.

        State that is set from outside has its `step` on the device of its parameter, as the fused kernel needs it.
        """
        super().__init__(groups, fused=True, **settings)
        self.gate = Gate()
        self.clip: UpdateClip | None = None
        self.measure = measure
        self._counts = UpdateCounts()
        self._squares: list[torch.Tensor] = []

    def step(self, closure: Any = None) -> Any:
        """AdamW's step, or no change if the gate is closed."""
        if not self.gate.passes():
            return None
        if not self.measure and self.clip is None:
            self._counts.forget()
            return super().step(closure)
        clipped = self.clip.prepare(self, self._counts) if self.clip else None
        result = super().step(closure)
        for _, tensors in with_gradient(self):
            self._counts.advance([self.state[tensor]["step"] for tensor in tensors])
        if clipped:
            clipped.shrink()
        if self.measure:
            self._squares += self._sums_of_squares()
        return result

    def take_squares(self) -> float:
        """The sum since the last call. The only number of a step that is read from the device."""
        squares, self._squares = self._squares, []
        return float(torch.stack(squares).sum()) if squares else 0.0

    @torch.no_grad()
    def _sums_of_squares(self) -> Iterator[torch.Tensor]:
        """Sums of (rate x m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps))^2 over the parameters stepped just now."""
        for pieces in stepped_pieces(self, self._counts, self.clip.parts if self.clip else None):
            beta1, beta2 = pieces.group["betas"]
            root = torch._foreach_div(pieces.second, [1 - beta2**count for count in pieces.counts])
            torch._foreach_sqrt_(root)
            torch._foreach_add_(root, pieces.group["eps"])
            norms = torch._foreach_norm(torch._foreach_div(pieces.first, root))
            factors = self.clip.factors_of(pieces) if self.clip else [1.0] * len(norms)
            rate, counts = float(pieces.group["lr"]), pieces.counts
            torch._foreach_mul_(norms, [rate * f / (1 - beta1**t) for f, t in zip(factors, counts, strict=True)])
            yield torch.stack(norms).double().square().sum()
