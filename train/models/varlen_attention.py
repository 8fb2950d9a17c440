"""Causal attention of conversations packed into one row, each by itself, without a mask of T x T.

`torch.nn.attention.varlen` (torch 2.10 and later, 16-bit types on a GPU) takes the boundaries of the conversations
instead of a mask: memory and work grow with the conversations' lengths, not with the square of the row's. Elsewhere
`kernel_for` returns None and the caller masks. Tensor shapes: `T` tokens of the row, `P` tokens of the shared prefix,
`L` tokens of the row with the prefix before every conversation, `h` heads, `d` head size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import torch

Kernel = Callable[..., torch.Tensor]
"""`torch.nn.attention.varlen.varlen_attn`."""


def kernel_for(states: torch.Tensor) -> Kernel | None:
    """The kernel for the device and the type of `states`, or None where there is none."""
    half = states.dtype in (torch.bfloat16, torch.float16)
    return _torch_kernel() if states.is_cuda and half else None


@cache
def _torch_kernel() -> Kernel | None:
    """PyTorch's kernel, or None before torch 2.10."""
    if find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention.varlen import varlen_attn

    return cast(Kernel, varlen_attn)


@dataclass(frozen=True)
class PackedRow:
    """Where the conversations of a packed row are; each begins with the same prefix, which is in the row only once."""

    kernel: Kernel
    keys: torch.Tensor  # (L,): for each token of all conversations, its number among prefix and row
    queries: torch.Tensor  # (T,): for each token of the row, its number among all conversations
    boundaries: torch.Tensor  # (C + 1,) int32, in L
    longest: int  # tokens of the longest conversation

    @classmethod
    def of(cls, kernel: Kernel, lengths: torch.Tensor, prefix: int) -> "PackedRow":
        """`lengths` (C,) without the `prefix` tokens."""
        whole = lengths + prefix
        boundaries = torch.cat([whole.new_zeros(1), whole.cumsum(0)])
        conversation = torch.repeat_interleave(torch.arange(len(whole), device=whole.device), whole)  # (L,)
        offset = torch.arange(len(conversation), device=whole.device) - boundaries[conversation]
        own = offset >= prefix
        keys = torch.where(own, prefix + own.cumsum(0) - 1, offset)
        return cls(kernel, keys, own.nonzero()[:, 0], boundaries.int(), int(whole.max()))

    def attend(self, attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(1, h, T, d) of queries (1, h, T, d), keys and values (1, h, P + T, d).

        The prefix gets queries of zero, so that every conversation is a square: kernels differ in where they place the
        diagonal of any other shape.
        """
        own = queries[0].transpose(0, 1)  # (T, h, d)
        square = own.new_zeros(len(self.keys), *own.shape[1:]).index_copy(0, self.queries, own)
        spread = [part[0].transpose(0, 1)[self.keys] for part in (keys, values)]
        attended = self.kernel(
            square,
            *spread,
            self.boundaries,
            self.boundaries,
            self.longest,
            self.longest,
            scale=attention.scaling,
            window_size=(-1, 0),
            enable_gqa=attention.num_key_value_groups > 1,
        )
        return attended[self.queries].transpose(0, 1)[None]
