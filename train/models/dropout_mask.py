"""Dropout masks that are computed from two numbers, so that nothing of a mask is kept for the backward pass.

    keys = draw_keys(3, states)                      # of three masks, from the device's random generator
    dropped = masked(states, keys[0], 0.05)          # the same elements every time

Whether an element is dropped is a hash of its row, its column and the mask's keys: the same on every device, compiled
or not. The keys come from the generator that `torch.manual_seed` seeds and activation checkpointing restores.
Kept elements are not scaled by 1 / (1 - rate); callers fold that into a smaller factor. The hash shifts and multiplies
twice, by 0x21f0aaad and 0x735a2d97 (found by search: github.com/skeeto/hash-prospector). Tensor shapes: `R` rows, `C`
columns.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

Kernel = Callable[..., Any]
LOWEST = -(2**31)
CACHED = 2**17  # elements at a time on a CPU: their hashes stay in its cache


def draw_keys(count: int, like: torch.Tensor) -> torch.Tensor:
    """Keys (count, 2) of as many independent masks, on the device of `like`."""
    return torch.randint(LOWEST, 2**31 - 1, (count, 2), dtype=torch.int32, device=like.device)


def masked(states: torch.Tensor, keys: torch.Tensor, rate: float) -> torch.Tensor:
    """`states` (R, C) with zeros where the mask of `keys` (2,) drops them: each element with probability `rate`."""
    dropped: torch.Tensor = _kernel(_masked, states)(states, keys, rate)
    return dropped


def masked_twice(
    states: torch.Tensor, gradient: torch.Tensor, total: torch.Tensor, keys: torch.Tensor, rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`masked(states)` and `total` + `masked(gradient)`, all (R, C); changes `total`."""
    both: tuple[torch.Tensor, torch.Tensor] = _kernel(_masked_twice, states)(states, gradient, total, keys, rate)
    return both


def keep_mask(keys: torch.Tensor, rows: int, columns: int, rate: float) -> torch.Tensor:
    """(rows, columns) bool: true where the mask of `keys` (2,) keeps the element."""
    row = _folded(_mixed(torch.arange(rows, dtype=torch.int32, device=keys.device) + keys[0]), 15)
    column = _folded(_mixed(torch.arange(columns, dtype=torch.int32, device=keys.device) ^ keys[1]), 15)
    lowest = LOWEST + round(rate * 2**32)  # of those kept; the hash is uniform in the 32-bit integers
    whole = torch.compiler.is_compiling() or keys.device.type != "cpu"
    parts = [row] if whole else torch.split(row, max(1, CACHED // columns))
    return torch.cat([_mixed(part[:, None] ^ column) >= lowest for part in parts])  # this needs no last fold


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """A hash of each 32-bit integer, in place; products of 32-bit integers wrap. Its high bits depend on all others."""
    return _folded(_folded(bits, 16).mul_(0x21F0AAAD), 15).mul_(0x735A2D97)


def _folded(bits: torch.Tensor, shift: int) -> torch.Tensor:
    """Each integer xor itself shifted right, in place; `&` clears the copies of the sign."""
    return bits.bitwise_xor_((bits >> shift).bitwise_and_(2 ** (32 - shift) - 1))


def _masked(states: torch.Tensor, keys: torch.Tensor, rate: float) -> torch.Tensor:
    rows, columns = states.shape
    return torch.where(keep_mask(keys, rows, columns, rate), states, 0)


def _masked_twice(
    states: torch.Tensor, gradient: torch.Tensor, total: torch.Tensor, keys: torch.Tensor, rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = states.shape
    mask = keep_mask(keys, rows, columns, rate)
    return torch.where(mask, states, 0), total.add_(torch.where(mask, gradient, 0))


def _kernel(function: Kernel, states: torch.Tensor) -> Kernel:
    """`function` as one kernel on a GPU; elsewhere, and within a larger compiled region, as it is."""
    if torch.compiler.is_compiling() or not states.is_cuda or find_spec("triton") is None:
        return function
    return _compiled(function)


@cache
def _compiled(function: Kernel) -> Kernel:
    return torch.compile(function, dynamic=True)
