"""A LLaMA-type decoder run layer by layer; the keys of each layer are in one preallocated buffer.

    keys = KeyValueCache.room(steps, rows=8, length=640)
    last = steps.prefill(states, lengths, keys)      # (B, H): the head's input at each row's last token
    last = steps.step(words(tokens), keys)           # one more token per row

The arithmetic is transformers' own, module by module, without the results that greedy decoding discards: the last layer
is run at each row's last position only, no keys are copied from step to step, and rows are padded on the right, so that
causal attention needs no mask: no position that is used attends to the padding.

Tensor shapes: `B` rows, `R` tokens of the longest row, `K` keys so far, `H` hidden size, `h` heads, `d` head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.models.llama_layers import (
    after_attention,
    causal_attention,
    is_supported,
    masked_attention,
    queries_at,
    queries_keys_values,
    rotary_angles,
)


@dataclass
class KeyValueCache:
    """Keys and values of all layers, each (B, h, room, d); of row r the first `lengths[r]` positions are in use."""

    buffers: list[tuple[torch.Tensor, torch.Tensor]]
    lengths: list[int]

    @classmethod
    def room(cls, steps: "LlamaSteps", rows: int, length: int) -> "KeyValueCache":
        """Buffers of `length` positions for `rows` rows.

        They are zero, not uninitialized: a masked position has weight 0, and 0 times its content must not be NaN.
        """
        weight, attention = steps.layers[0].self_attn.k_proj.weight, steps.layers[0].self_attn
        shape = (rows, weight.shape[0] // attention.head_dim, length, attention.head_dim)
        return cls([(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in steps.layers], [0] * rows)

    def begin(self, shared: "KeyValueCache") -> None:
        """Put the keys of `shared`, a single row, before every row."""
        length = shared.lengths[0]
        for own, other in zip(self.buffers, shared.buffers, strict=True):
            for buffer, keys in zip(own, other, strict=True):
                buffer[:, :, :length] = keys[:, :, :length]
        self.lengths = [length] * len(self.lengths)

    def drop(self, row: int) -> None:
        """Remove a row: the last row is copied over it and the others do not move.

        Positions beyond its end are copied too: the removed row may hold NaN there, which a mask does not hide.
        """
        last, longest = len(self.lengths) - 1, max(self.lengths)
        if row != last:
            for buffer in (tensor for pair in self.buffers for tensor in pair):
                buffer[row, :, :longest] = buffer[last, :, :longest]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def write(
        self, layer: int, new: Sequence[torch.Tensor], ends: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put `new` keys and values (B, h, R, d) behind each row's own, and return all (B, h, K, d).

        Rows of different lengths grow by one token; `ends` are then their numbers and lengths (B,).
        """
        rows, count = len(self.lengths), new[0].shape[2]
        end = max(self.lengths) + count
        for buffer, part in zip(self.buffers[layer], new, strict=True):
            if ends is None or len(set(self.lengths)) == 1:
                buffer[:rows, :, end - count : end] = part
            else:
                buffer[ends[0], :, ends[1]] = part[:, :, 0]
        all_keys, all_values = self.buffers[layer]
        return all_keys[:rows, :, :end], all_values[:rows, :, :end]


class LlamaSteps:
    """Prefill and decoding steps of one decoder; `fits` says which decoders are supported."""

    def __init__(self, decoder: Any):
        """`decoder` is a `LlamaModel` or `MistralModel`."""
        self.decoder = decoder
        self.layers = decoder.layers[: decoder.config.num_hidden_layers]

    @staticmethod
    def fits(decoder: Any) -> bool:
        """Whether the decoder is supported: not with a sliding window, or angles that change with length."""
        return is_supported(decoder)

    def prefill(self, states: torch.Tensor, lengths: list[int], keys: KeyValueCache) -> torch.Tensor:
        """(B, H) after the norm at each row's last token, `lengths[r]` of `states` (B, R, H) being its own.

        The tokens already in `keys`, equally many in each row, come before.
        """
        before, (rows, count) = keys.lengths[0], states.shape[:2]
        angles = rotary_angles(self.decoder, states, torch.arange(before, before + count, device=states.device)[None])
        for number, layer in enumerate(self.layers[:-1]):
            queries, *new = queries_keys_values(layer, states, angles)
            attended = causal_attention(layer.self_attn, queries, *keys.write(number, new))
            states = after_attention(layer, states, attended)
        layer, last = self.layers[-1], torch.tensor(lengths, device=states.device) - 1
        positions = torch.arange(rows, device=states.device)[:, None], last[:, None]
        queries, *new = queries_at(layer, states, angles, positions)
        written = keys.write(len(self.layers) - 1, new)
        keys.lengths = [before + length for length in lengths]
        attended = masked_attention(layer.self_attn, queries, *written, _seen(keys.lengths, states.device))
        return self._normed(after_attention(layer, states[positions], attended))

    def step(self, states: torch.Tensor, keys: KeyValueCache) -> torch.Tensor:
        """(B, H) after the norm for one more token (B, 1, H) of every row."""
        lengths = torch.tensor(keys.lengths, device=states.device)
        ends = torch.arange(len(lengths), device=states.device), lengths
        angles = rotary_angles(self.decoder, states, lengths[:, None])
        grown = [length + 1 for length in keys.lengths]
        mask = _seen(grown, states.device)
        for number, layer in enumerate(self.layers):
            queries, *new = queries_keys_values(layer, states, angles)
            attended = masked_attention(layer.self_attn, queries, *keys.write(number, new, ends), mask)
            states = after_attention(layer, states, attended)
        keys.lengths = grown
        return self._normed(states)

    def _normed(self, states: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.decoder.norm(states)
        return normed[:, 0]


def _seen(lengths: list[int], device: torch.device) -> torch.Tensor | None:
    """(B, 1, 1, K) whether a key is among the first `lengths[r]` of its row; None where all are. One for all layers."""
    if len(set(lengths)) == 1:
        return None
    positions = torch.arange(max(lengths), device=device)
    return (positions < torch.tensor(lengths, device=device)[:, None])[:, None, None]
