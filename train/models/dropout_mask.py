"""Dropout masks that are computed from two numbers, so that nothing of a mask is kept for the backward pass.

    keys = draw_keys(3, states)                      # of three masks, from the device's random generator
    dropped = masked(states, keys[0], 0.05)          # the same elements every time

Whether an element is dropped is a hash of its row, its column and the mask's keys: the same on every device, compiled
or not. The keys come from the generator that `torch.manual_seed` seeds and activation checkpointing restores.
Kept elements are not scaled by 1 / (1 - rate); callers fold that into a smaller factor. The hash is Mueller's shift and
multiply construction with the constants 0x21f0aaad and 0x735a2d97 (T. Brown's and C. Wellons's search for such hashes,
github.com/skeeto/hash-prospector). Tensor shapes: `R` rows, `C` columns.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import cast

import torch

Kernel = Callable[..., torch.Tensor]
LOWEST = -(2**31)


def draw_keys(count: int, like: torch.Tensor) -> torch.Tensor:
    """Keys (count, 2) of as many independent masks, on the device of `like`."""
    return torch.randint(LOWEST, 2**31 - 1, (count, 2), dtype=torch.int32, device=like.device)


def masked(states: torch.Tensor, keys: torch.Tensor, rate: float) -> torch.Tensor:
    """`states` (R, C) with zeros where the mask of `keys` (2,) drops them: each element with probability `rate`."""
    return _kernel(_masked, states)(states, keys, rate) if rate else states


def add_masked(total: torch.Tensor, states: torch.Tensor, keys: torch.Tensor, rate: float) -> torch.Tensor:
    """`total` + `masked(states, keys, rate)`, all (R, C); changes `total` unless it is being compiled."""
    if torch.compiler.is_compiling():
        return total + masked(states, keys, rate)
    return _kernel(_add_masked, states)(total, states, keys, rate) if rate else total.add_(states)


def keep_mask(keys: torch.Tensor, rows: int, columns: int, rate: float) -> torch.Tensor:
    """(rows, columns) bool: true where the mask of `keys` (2,) keeps the element."""
    row = _mixed(torch.arange(rows, dtype=torch.int32, device=keys.device) + keys[0])
    column = _mixed(torch.arange(columns, dtype=torch.int32, device=keys.device) ^ keys[1])
    bits = _mixed(row[:, None] ^ column)  # uniform in the 32-bit integers
    return bits >= LOWEST + round(rate * 2**32)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """A hash of each 32-bit integer; integers of 32 bits wrap, and `&` makes shifts logical."""
    bits = (bits ^ ((bits >> 16) & 0xFFFF)) * 0x21F0AAAD
    bits = (bits ^ ((bits >> 15) & 0x1FFFF)) * 0x735A2D97
    return bits ^ ((bits >> 15) & 0x1FFFF)


def _masked(states: torch.Tensor, keys: torch.Tensor, rate: float) -> torch.Tensor:
    return torch.where(keep_mask(keys, *states.shape, rate), states, 0)


def _add_masked(total: torch.Tensor, states: torch.Tensor, keys: torch.Tensor, rate: float) -> torch.Tensor:
    return total.add_(_masked(states, keys, rate))


def _kernel(function: Kernel, states: torch.Tensor) -> Kernel:
    """`function` as one kernel on a GPU; elsewhere, and within a larger compiled region, as it is."""
    if torch.compiler.is_compiling() or not states.is_cuda or find_spec("triton") is None:
        return function
    return _compiled(function)


@cache
def _compiled(function: Kernel) -> Kernel:
    return cast(Kernel, torch.compile(function, dynamic=True))
