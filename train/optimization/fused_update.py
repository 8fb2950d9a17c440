"""What DeepSpeed does parameter by parameter in an update, for all parameters at once: norms, clipping, fp32 copies.

DeepSpeed 0.19 launches up to ten small kernels for each trained parameter (an `amax` and an `amin` to find infinities,
a norm in double precision, conversions) and without ZeRO waits for the GPU at each. Here the norm is one reduction, and
it alone finds NaN and infinity: a norm is finite only if all gradients are. What an update does is unchanged.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch


def fuse_update(engine: Any, optimizer: Any, stage: int, norm: Callable[[], float]) -> None:
    """Replace these loops in DeepSpeed's `engine` and its `optimizer` of ZeRO `stage`.

    `norm` gives the norm of the step's gradients, as in ZeRO 0 it is known before the update.
    """
    if stage == 0:
        if hasattr(optimizer, "fp32_groups"):
            optimizer.step = MasterUpdate(optimizer, norm).step
        else:
            engine.clip_fp32_gradients = lambda: _clip(engine.module, norm(), engine.gradient_clipping())
    elif not (getattr(optimizer, "cpu_offload", False) or getattr(optimizer, "offload_optimizer", False)):
        optimizer.get_grad_norm_direct = partial(_norm_of_shards, optimizer)
        if stage < 3:  # ZeRO 3 looks at the norm only
            optimizer.has_overflow = lambda *_: False


@torch.no_grad()
def total_norm(gradients: Iterable[torch.Tensor]) -> torch.Tensor:
    """2-norm of all `gradients` together, a scalar on their device; NaN or infinite if one of them is."""
    listed = list(gradients)
    if not listed:
        return torch.zeros(())
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(listed, 2, dtype=torch.float32)))
    return norm


class MasterUpdate:
    """`step` of DeepSpeed's FP16_UnfusedOptimizer, which bf16 without ZeRO uses: weights in bf16, masters in fp32."""

    def __init__(self, optimizer: Any, norm: Callable[[], float]):
        """`optimizer` is DeepSpeed's."""
        self.optimizer = optimizer
        self.norm = norm
        self.weights: list[torch.Tensor] = list(chain(*optimizer.fp16_groups))
        self.masters: list[torch.Tensor] = list(chain(*optimizer.fp32_groups))
        sizes = [master.numel() for master in self.masters]
        self._flat = torch.empty(sum(sizes), device=self.masters[0].device)
        pieces = torch.split(self._flat, sizes)
        self._gradients = [piece.view(master.shape) for piece, master in zip(pieces, self.masters, strict=True)]
        self._free()

    @torch.no_grad()
    def step(self) -> bool:
        """Update masters and weights; True if the gradients are not finite, which changes nothing."""
        norm = self.norm()
        if not math.isfinite(norm):
            return bool(self.optimizer._skip_invalid_grad_norm())
        self.optimizer.overflow, self.optimizer._global_grad_norm = False, norm
        self.optimizer._update_scale(False)
        self._fill(norm)
        for master, gradient in zip(self.masters, self._gradients, strict=True):
            master.grad = gradient
        self.optimizer.optimizer.step()
        for master in self.masters:
            master.grad = None
        self._free()
        torch._foreach_copy_(self.weights, self.masters)
        return False

    def _fill(self, norm: float) -> None:
        """The gradients in fp32, clipped; zero for weights that have none."""
        self._flat.untyped_storage().resize_(self._flat.numel() * self._flat.element_size())
        pairs = list(zip(self._gradients, (weight.grad for weight in self.weights), strict=True))
        if with_gradient := [(mine, grad) for mine, grad in pairs if grad is not None]:
            torch._foreach_copy_([mine for mine, _ in with_gradient], [grad for _, grad in with_gradient])
        if without := [mine for mine, grad in pairs if grad is None]:
            torch._foreach_zero_(without)
        scale, limit = float(self.optimizer.loss_scale), float(self.optimizer.clip_grad)
        if limit > 0:
            scale *= max(1.0, (norm / scale + 1e-6) / limit)
        if scale != 1:
            self._flat.mul_(1 / scale)

    def _free(self) -> None:
        """Give the memory of the fp32 gradients back until the next update; their views stay."""
        self._flat.untyped_storage().resize_(0)


@torch.no_grad()
def _clip(module: torch.nn.Module, norm: float, limit: float) -> None:
    """Scale all gradients so that their norm is at most `limit`."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if gradients and norm + 1e-6 > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))


@torch.no_grad()
def _norm_of_shards(
    optimizer: Any, gradients: Sequence[torch.Tensor], params: Sequence[Any], norm_type: float = 2
) -> torch.Tensor:
    """The norm of all ranks' shards of a parameter group, or -1 if it is not finite, as DeepSpeed marks it."""
    assert norm_type == 2, "DeepSpeed clips by the 2-norm only"
    kept = [gradient for gradient in gradients if not getattr(gradient, "_zero_padding", False)]
    square = total_norm(kept).to(optimizer.device).square()
    group = getattr(params[0], "ds_process_group", optimizer.dp_process_group) if params else optimizer.dp_process_group
    torch.distributed.all_reduce(square, group=group)
    norm = square.sqrt()
    return torch.where(norm.isfinite(), norm, -1.0)
