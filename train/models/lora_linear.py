"""LoRA's forward and backward pass without peft's: less memory, fewer kernels, the same result.

    queries, keys, values = linears([attention.q_proj, attention.k_proj, attention.v_proj], norm, states)

computes y = x W^T + b + scale * dropout(x) A^T B^T for several layers that read the same x = norm(states). Kept for the
backward pass are `states` and the products of rank r; x, its dropout and the masks are computed again. Each layer draws
a mask of its own, as peft's layers do: one mask for all three would leave each layer's distribution as it is, but tie
the noise of their gradients together, and saves little where a mask is part of a kernel that reads x anyway.

`AdaptedLinear` takes the place of peft's layer under the same parameter names. Where its own pass does not apply (DoRA
and other variants, merged or switched-off adapters, quantised or trainable weights, autocast, other types of the
adapter, ZeRO 3's partitioned weights), it is peft's layer. Tensor shapes: `R` tokens, `I` inputs, `O` outputs,
`r` rank.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import nn

from train.models.dropout_mask import draw_keys, masked, masked_twice

Make = Callable[..., torch.Tensor]
"""What the layers read, from tensors: row by row, with no trained parameter."""
SALT = 0x5BD1E995


class AdaptedLinear(Linear):  # type: ignore[misc]
    """A linear layer with LoRA: peft's, with this module's forward pass where `runs_own_pass`."""

    def forward(self, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        """(..., I) to (..., O); `args` and `options` are peft's."""
        if args or options or not runs_own_pass(self, x):
            result: torch.Tensor = super().forward(x, *args, **options)
            return result
        return _adapted([self], None, x)[0]


def runs_own_pass(layer: nn.Module, states: torch.Tensor) -> bool:
    """Whether `layer` has plain LoRA on a frozen linear layer, all of the type of `states`."""
    if not isinstance(layer, AdaptedLinear) or layer.disable_adapters or layer.merged:
        return False
    name, *others = layer.active_adapters
    if others or name not in layer.lora_A or name in layer.lora_variant:
        return False
    parts = (layer.base_layer, layer.lora_A[name], layer.lora_B[name])
    if any(type(part) is not nn.Linear or part.weight.dtype != states.dtype for part in parts):
        return False
    frozen = not any(parameter.requires_grad for parameter in layer.base_layer.parameters())
    whole = not any(hasattr(part.weight, "ds_id") for part in parts)  # ZeRO 3 fetches weights module by module
    unbiased = layer.lora_A[name].bias is None and layer.lora_B[name].bias is None
    return frozen and whole and unbiased and not any(map(torch.is_autocast_enabled, ("cuda", "cpu")))


def linears(layers: Sequence[nn.Module], make: Make, *raw: torch.Tensor) -> list[torch.Tensor]:
    """What each of `layers` makes of `make(*raw)`, (..., O) each; `make` works row by row."""
    own = [runs_own_pass(layer, raw[0]) for layer in layers]
    if not any(own):
        made = make(*raw)
        return [layer(made) for layer in layers]
    trained = isinstance(make, nn.Module) and any(parameter.requires_grad for parameter in make.parameters())
    if all(own) and not trained and not torch.compiler.is_compiling():  # a compiler chooses itself what to recompute
        return _adapted(layers, make, *raw)
    made = make(*raw)
    adapted = iter(_adapted([layer for layer, is_own in zip(layers, own, strict=True) if is_own], None, made))
    return [next(adapted) if is_own else layer(made) for layer, is_own in zip(layers, own, strict=True)]


def _adapted(layers: Sequence[nn.Module], make: Make | None, *raw: torch.Tensor) -> list[torch.Tensor]:
    rates, scales, weights = [], [], []
    for layer in layers:
        assert isinstance(layer, AdaptedLinear)
        name = layer.active_adapters[0]
        dropout = layer.lora_dropout[name]
        rates.append(dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0)
        scales.append(layer.scaling[name])
        weights += [layer.base_layer.weight, layer.base_layer.bias]
        weights += [layer.lora_A[name].weight, layer.lora_B[name].weight]
    keys = draw_keys(len(layers), raw[0]) if any(rates) else None
    outputs = _Products.apply(make, len(raw), tuple(rates), tuple(scales), keys, *raw, *weights)  # type: ignore[no-untyped-call]
    return list(outputs)


class _Products(torch.autograd.Function):
    """Outputs of several adapted layers that read the same input.

    Tensors: those that `make` takes, or the input; then weight, bias, A and B of each layer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        make: Make | None,
        raw_count: int,
        rates: tuple[float, ...],
        scales: tuple[float, ...],
        keys: torch.Tensor | None,
        *tensors: Any,
    ) -> tuple[torch.Tensor, ...]:
        raw, weights = tensors[:raw_count], tensors[raw_count:]
        made = raw[0] if make is None else make(*raw)
        rows = made.reshape(-1, made.shape[-1])  # (R, I)
        outputs, lows = [], []
        for number, (rate, scale) in enumerate(zip(rates, scales, strict=True)):
            weight, bias, down, up = weights[4 * number : 4 * number + 4]
            dropped = masked(rows, keys[number], rate) if rate and keys is not None else rows
            low = _product(dropped, down.T, scale / (1 - rate))  # (R, r)
            outputs.append(_sum(F.linear(rows, weight, bias), low, up.T).view(*made.shape[:-1], -1))
            lows.append(low)
        ctx.make, ctx.raw_count, ctx.rates, ctx.scales = make, raw_count, rates, scales
        ctx.salted = keys is not None and torch.compiler.is_compiling()
        ctx.save_for_backward(keys ^ SALT if ctx.salted and keys is not None else keys, *lows, *tensors)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        count = len(ctx.rates)
        keys, *saved = ctx.saved_tensors
        lows, raw, weights = saved[:count], saved[count : count + ctx.raw_count], saved[count + ctx.raw_count :]
        keys = keys ^ SALT if ctx.salted else keys
        needed = ctx.needs_input_grad[5 : 5 + ctx.raw_count]
        with torch.set_grad_enabled(ctx.make is not None and any(needed)):
            raw = raw if ctx.make is None else [_leaf(*pair) for pair in zip(raw, needed, strict=True)]
            made = raw[0] if ctx.make is None else ctx.make(*raw)
        rows = made.detach().reshape(-1, made.shape[-1])
        total: torch.Tensor | None = None  # gradient of the input (R, I)
        results: list[torch.Tensor | None] = []
        for number, (rate, scale, gradient) in enumerate(zip(ctx.rates, ctx.scales, gradients, strict=True)):
            weight, _, down, up = weights[4 * number : 4 * number + 4]
            above = gradient.reshape(-1, gradient.shape[-1])  # (R, O)
            dropped = rows
            low = _product(above, up, scale / (1 - rate))  # (R, r)
            if any(needed):
                total = above @ weight if total is None else _sum(total, above, weight)
            if not rate:
                total = None if total is None else _sum(total, low, down)
            elif total is None:
                dropped = masked(rows, keys[number], rate)
            else:
                dropped, total = masked_twice(rows, low @ down, total, keys[number], rate)
            results += [None, None, low.T @ dropped, above.T @ lows[number]]
        return None, None, None, None, None, *_below(ctx.make is not None, made, raw, needed, total), *results


def _sum(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`total` + `left` @ `right`: a product that adds to its output, or a sum that a compiler fuses."""
    return total + left @ right if torch.compiler.is_compiling() else total.addmm_(left, right)


def _product(left: torch.Tensor, right: torch.Tensor, factor: float) -> torch.Tensor:
    """`factor` * `left` @ `right`, scaled within the product."""
    if torch.compiler.is_compiling():
        return left @ right * factor
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=factor)


def _leaf(tensor: torch.Tensor, needed: bool) -> torch.Tensor:
    return tensor.detach().requires_grad_(needed)


def _below(
    made_here: bool, made: torch.Tensor, raw: Sequence[torch.Tensor], needed: Sequence[bool], total: torch.Tensor | None
) -> list[torch.Tensor | None]:
    """Gradients of `raw` from the gradient `total` (R, I) of what was made of them."""
    if total is None:
        return [None] * len(raw)
    total = total.view(made.shape)
    if not made_here:
        return [total]
    wanted = [tensor for tensor, is_needed in zip(raw, needed, strict=True) if is_needed]
    found = iter(torch.autograd.grad(made, wanted, total))
    return [next(found) if is_needed else None for is_needed in needed]
