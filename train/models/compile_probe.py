"""Compiled parts of a decoder layer whose kernels do not depend on the sizes of the first batch that a process sees.

    before = CompiledOnProbe(torch.compile(queries_keys_values, dynamic=True))

`torch.compile` chooses kernels for the sizes of the first call: how a sum is divided, and so its rounding, follows from
the number of rows and tokens (torch/_inductor/runtime/triton_heuristics.py, `size_hints`). A resumed run begins with
another batch than the run it continues. So the first call for each layer and each kind of input is one with zeros of a
fixed size, whose result is dropped. Kinds are what PyTorch compiles separately: a single row or several, a single token
or several, the order of strides, with gradients or without. Tensor shapes: `B` rows, `R` tokens, `h` heads, `d` head
size, `H` hidden size.
"""

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

ROWS, TOKENS = 5, 509  # of a probe; primes, equal to no other size: equal sizes of a first call are assumed equal later
GAP = 7  # tokens cut off
TOKEN_DIM = {3: 1, 4: 2}  # by number of dimensions: (B, R, H), (1 or B, R, d) and (B, h, R, d)


class CompiledOnProbe:
    """`function(layer, *tensors)` of compiled `function`; tensors may be grouped in tuples."""

    def __init__(self, function: Callable[..., Any]):
        """Nothing is compiled yet."""
        self.function = function
        self._seen: WeakKeyDictionary[nn.Module, set[Hashable]] = WeakKeyDictionary()

    def __call__(self, layer: nn.Module, *given: Any) -> Any:
        """As the function; random numbers are drawn by this call alone."""
        kind = (torch.is_grad_enabled(), layer.training, *(_each(_kind, one) for one in given))
        seen = self._seen.setdefault(layer, set())
        if kind not in seen:
            seen.add(kind)
            self._probe(layer, given)
        return self.function(layer, *(_each(_unlinked, one) for one in given))

    def _probe(self, layer: nn.Module, given: tuple[Any, ...]) -> None:
        device = given[0].device
        own_hooks = torch.autograd.graph.saved_tensors_hooks(_same, _same)  # a checkpoint around counts what is kept
        with torch.random.fork_rng([device] if device.type == "cuda" else []), own_hooks:
            self.function(layer, *(_each(_resized, one) for one in given))


def _each(change: Callable[[torch.Tensor], Any], given: Any) -> Any:
    return tuple(map(change, given)) if isinstance(given, tuple) else change(given)


def _unlinked(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory, no longer known as a view: PyTorch compiles again for a view of a tensor of another shape."""
    unlinked: torch.Tensor = torch.ops.aten._unsafe_view(tensor, tensor.shape)
    return unlinked


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _kind(tensor: torch.Tensor) -> Hashable:
    ones = tensor.shape[0] == 1, tensor.shape[TOKEN_DIM[tensor.dim()]] == 1
    layout = _order(tensor), _is_dense(tensor)
    return *ones, tensor.requires_grad, tensor.dtype, tensor.device, tensor.is_inference(), *layout


def _order(tensor: torch.Tensor) -> tuple[int, ...]:
    """Its dimensions, that of the largest stride first."""
    return tuple(sorted(range(tensor.dim()), key=lambda dim: (-tensor.stride()[dim], dim)))


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether there are no gaps in its memory, as there are between rows where the first tokens of each are cut off."""
    ordered = tensor.permute(_order(tensor))
    return ordered.is_contiguous()


def _resized(tensor: torch.Tensor) -> torch.Tensor:
    """Zeros of a fixed number of rows and tokens, where `tensor` has more than one, with gaps as it has."""
    sizes, tokens = list(tensor.shape), TOKEN_DIM[tensor.dim()]
    for dim, size in ((0, ROWS), (tokens, TOKENS)):
        sizes[dim] = size if tensor.shape[dim] > 1 else tensor.shape[dim]
    order, gap = _order(tensor), 0 if _is_dense(tensor) else GAP
    places = [sizes[dim] + gap * (dim == tokens) for dim in order]
    whole = torch.zeros(places, dtype=tensor.dtype, device=tensor.device)
    permuted = whole.permute([order.index(dim) for dim in range(len(order))]).narrow(tokens, gap, sizes[tokens])
    return _unlinked(permuted.detach().requires_grad_(tensor.requires_grad))
