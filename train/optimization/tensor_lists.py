"""What AdamW updates, as lists for PyTorch's foreach kernels: a few launches however many parameters are trained.

    for pieces in stepped_pieces(optimizer, counts):
        torch._foreach_mul_(pieces.weights, 0.9)

A list holds at most `BATCH_ELEMENTS` elements, or one tensor, which bounds the memory of what is computed from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

BATCH_ELEMENTS = 2**26
NO_PARAMETER = -1  # elements of a flat shard that only fill it up


@dataclass(frozen=True)
class Part:
    """Elements `start` to `end` of a tensor that the optimizer updates; they belong to parameter number `parameter`."""

    parameter: int
    start: int
    end: int


Parts = Mapping[torch.Tensor, Sequence[Part]]


class UpdateCounts:
    """AdamW's step count of each tensor as a number on the host: read from the device once, then counted along."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: Any = WeakTensorKeyDictionary()

    def of(self, steps: Sequence[torch.Tensor]) -> list[int]:
        """The numbers that `steps` hold, scalars on one device."""
        unknown = [step for step in steps if step not in self._known]
        for step, count in zip(unknown, torch.stack(unknown).tolist() if unknown else (), strict=True):
            self._known[step] = round(count)
        return [self._known[step] for step in steps]

    def advance(self, steps: Sequence[torch.Tensor]) -> None:
        """AdamW has added 1 to these."""
        for step in steps:
            if step in self._known:
                self._known[step] += 1

    def forget(self) -> None:
        """Read all of them from the device again."""
        self._known.clear()


@dataclass
class Pieces:
    """Tensors, or parts of them, of one parameter `group`; the entries of all lists belong together."""

    group: Mapping[str, Any]
    weights: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    first: list[torch.Tensor] = field(default_factory=list)  # moments
    second: list[torch.Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # steps that AdamW has done
    parameters: list[int] = field(default_factory=list)  # numbers of `Part`, or NO_PARAMETER
    elements: int = 0


def with_gradient(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], list[torch.Tensor]]]:
    """Each parameter group and its tensors that have a gradient and moments."""
    for group in optimizer.param_groups:
        yield group, [one for one in group["params"] if one.grad is not None and optimizer.state.get(one)]


def stepped_pieces(optimizer: torch.optim.Optimizer, counts: UpdateCounts, parts: Parts | None) -> Iterator[Pieces]:
    """All tensors with a gradient, cut at the borders of `parts`, in lists of bounded size."""
    for group, tensors in with_gradient(optimizer):
        pieces = Pieces(group)
        steps = counts.of([optimizer.state[tensor]["step"] for tensor in tensors])
        for tensor, count in zip(tensors, steps, strict=True):
            state, cuts = optimizer.state[tensor], _cuts(tensor, parts[tensor] if parts else ())
            lists = (_cut(one, cuts) for one in (tensor, tensor.grad, state["exp_avg"], state["exp_avg_sq"]))
            for part, weight, gradient, first, second in zip(cuts, *lists, strict=True):
                if pieces.elements and pieces.elements + weight.numel() > BATCH_ELEMENTS:
                    yield pieces
                    pieces = Pieces(group)
                pieces.weights.append(weight)
                pieces.gradients.append(gradient)
                pieces.first.append(first)
                pieces.second.append(second)
                pieces.counts.append(count)
                pieces.parameters.append(part.parameter)
                pieces.elements += weight.numel()
        if pieces.weights:
            yield pieces


def _cuts(tensor: torch.Tensor, parts: Sequence[Part]) -> list[Part]:
    """`tensor` from its first to its last element: `parts`, what lies between them, and flat ones cut to size."""
    size = tensor.numel()
    ordered = sorted(parts, key=lambda part: part.start)
    borders = {0, size, *(part.start for part in ordered), *(part.end for part in ordered)}
    if tensor.dim() == 1:
        borders.update(range(0, size, BATCH_ELEMENTS))
    found, number = [], 0
    for start, end in pairwise(sorted(borders)):
        while number < len(ordered) and ordered[number].end <= start:
            number += 1
        inside = number < len(ordered) and ordered[number].start <= start
        found.append(Part(ordered[number].parameter if inside else NO_PARAMETER, start, end))
    return found


def _cut(tensor: torch.Tensor | None, cuts: Sequence[Part]) -> Sequence[torch.Tensor]:
    """Views of the elements of each of `cuts`."""
    assert tensor is not None
    if len(cuts) == 1:
        return [tensor]  # whole, in its own shape
    return torch.split(tensor.view(-1), [part.end - part.start for part in cuts])
