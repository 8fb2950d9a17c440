"""Keys and values of prompts with slots behind them for the nodes of a tree.

Tensor shapes: `B` prompts, `P` positions of the longest prompt, `S` slots in use, `V` vocabulary, `h` heads, `d` head
size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from eval.models.llama_decoder import Buffers


class SlotCache:
    """Keys of the prompts are never copied: the tree's are behind them in one buffer a layer, dropped by moving a mark.

    Also the cache object of a decoder's attention in transformers.
    """

    def __init__(self, buffers: Buffers, start: int):
        """`buffers` (B, h, P + room, d) of every layer; slots begin at `start` = P."""
        self.buffers, self.length, self.start = buffers, start, start
        self._ahead = 0

    @classmethod
    def of(cls, prompt: DynamicCache, room: int) -> "SlotCache":
        """Move the prompt's keys (B, h, P, d) into buffers with room, layer by layer."""
        start, buffers = int(prompt.get_seq_length()), []
        for layer in prompt.layers:
            buffers.append((_with_room(layer.keys, room), _with_room(layer.values, room)))
            layer.keys = layer.values = None
        return cls(buffers, start)

    @property
    def used(self) -> int:
        """S, the slots behind the prompt that hold a node."""
        return self.length - self.start

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the name is the caller's
        """Number of cached tokens, for transformers."""
        return self.length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys behind the others and return all; `commit` counts them once every layer has."""
        end = self.length + keys.shape[2]
        if end > self.buffers[layer_idx][0].shape[2]:
            own_keys, own_values = self.buffers[layer_idx]
            self.buffers[layer_idx] = _with_room(own_keys, end), _with_room(own_values, end)
        for buffer, new in zip(self.buffers[layer_idx], (keys, values), strict=True):
            buffer[:, :, self.length : end] = new
        self._ahead = keys.shape[2]
        all_keys, all_values = self.buffers[layer_idx]
        return all_keys[:, :, :end], all_values[:, :, :end]

    def commit(self) -> None:
        """Keep what the last forward wrote."""
        self.length, self._ahead = self.length + self._ahead, 0

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all nodes but those in `slots`, which then are slots 0, 1, 2, ..."""
        self.length = self.start + len(slots)
        if not slots:
            return
        kept = torch.tensor(slots, dtype=torch.long, device=self.buffers[0][0].device) + self.start
        for buffer in (tensor for pair in self.buffers for tensor in pair):
            buffer[:, :, self.start : self.length] = buffer[:, :, kept]

    def rows(self, rows: Sequence[int]) -> "SlotCache":
        """A copy for some of the prompts, without nodes."""
        return SlotCache([(keys[list(rows)], values[list(rows)]) for keys, values in self.buffers], self.start)


def _with_room(tensor: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, length, size = tensor.shape
    buffer = tensor.new_empty(rows, heads, length + room, size)
    buffer[:, :, :length] = tensor
    return buffer


@dataclass
class Prefix:
    """Prompts after their prefill: `lengths` tokens each, `mask` (B, P) of real ones.

    `logits` (B, V) and `next_positions` (B,) are those of the next token; `tokens` went through the decoder.
    """

    cache: SlotCache
    mask: torch.Tensor
    logits: torch.Tensor
    lengths: Sequence[int]
    next_positions: torch.Tensor
    tokens: int = 0

    @property
    def even(self) -> bool:
        """Whether no prompt is padded."""
        return min(self.lengths) == self.mask.shape[1]

    def rows(self, rows: Sequence[int]) -> "Prefix":
        """The same for some of the prompts."""
        chosen = list(rows)
        lengths = [self.lengths[row] for row in chosen]
        return Prefix(
            self.cache.rows(chosen), self.mask[chosen], self.logits[chosen], lengths, self.next_positions[chosen]
        )
