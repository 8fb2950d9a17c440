"""A LLaMA-type decoder run layer by layer; the keys of each layer are in one preallocated buffer.

    keys = KeyValueCache.room(steps, rows=8, length=640)
    last = steps.prefill(states, lengths, keys)              # (B, H): the head's input at each row's last token
    last = steps.step(words(tokens), ends, keys.view(641))   # one more token per row, at position `ends` of its row

The arithmetic is transformers' own, module by module, without the results that evaluation discards: the last layer is
run at each row's last position only, no keys are copied from step to step, and rows are padded on the right, so that
causal attention needs no mask: no position that is used attends to the padding.

Tensor shapes: `B` rows, `R` tokens of the longest row, `K` keys so far, `H` hidden size, `h` heads, `d` head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.models.layer_parts import LayerParts
from train.models.llama_layers import (
    Angles,
    causal_attention,
    is_supported,
    masked_attention,
    queries_at,
    rotary_angles,
)

Buffers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every layer, each (B, h, K, d)."""


@dataclass
class KeyValueCache:
    """Keys and values of all layers, each (B, h, room, d); of row r the first `lengths[r]` positions are in use."""

    buffers: Buffers
    lengths: list[int]

    @classmethod
    def room(cls, steps: "LlamaSteps", rows: int, length: int) -> "KeyValueCache":
        """Buffers of `length` positions for `rows` rows.

        They are zero, not uninitialized: a masked position has weight 0, and 0 times its content must not be NaN.
        """
        weight, attention = steps.layers[0].self_attn.k_proj.weight, steps.layers[0].self_attn
        shape = (rows, weight.shape[0] // attention.head_dim, length, attention.head_dim)
        return cls([(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in steps.layers], [0] * rows)

    def fits(self, rows: int, length: int, like: torch.Tensor) -> bool:
        """Whether `rows` rows of `length` positions have room, with the type and on the device of `like`."""
        first = self.buffers[0][0]
        same = (first.dtype, first.device) == (like.dtype, like.device)
        return same and rows <= first.shape[0] and length <= first.shape[2]

    def reuse(self, rows: int, start: int) -> None:
        """Begin again with `rows` rows, zero from position `start` on; what is before is to be overwritten."""
        self.lengths = [0] * rows
        for buffer in self._tensors():
            buffer[:, :, start:] = 0

    def begin(self, shared: "KeyValueCache") -> None:
        """Put the keys of `shared`, a single row, before every row."""
        length, rows = shared.lengths[0], len(self.lengths)
        for own, other in zip(self.buffers, shared.buffers, strict=True):
            for buffer, keys in zip(own, other, strict=True):
                buffer[:rows, :, :length] = keys[:, :, :length]
        self.lengths = [length] * rows

    def drop(self, row: int) -> None:
        """Remove a row: the last row is copied over it and the others do not move.

        Positions beyond its end are copied too: the removed row may hold NaN there, which a mask does not hide.
        """
        last, longest = len(self.lengths) - 1, max(self.lengths)
        if row != last:
            for buffer in self._tensors():
                buffer[row, :, :longest] = buffer[last, :, :longest]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but `rows` (ascending), in one copy per buffer."""
        for buffer in self._tensors():
            buffer[: len(rows)] = buffer[rows]
        self.lengths = [self.lengths[row] for row in rows.tolist()]

    def write(self, layer: int, new: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Put `new` keys and values (B, h, R, d) behind rows of equal length, and return all (B, h, K, d)."""
        rows, start = len(self.lengths), self.lengths[0]
        end = start + new[0].shape[2]
        for buffer, part in zip(self.buffers[layer], new, strict=True):
            buffer[:rows, :, start:end] = part
        all_keys, all_values = self.buffers[layer]
        return all_keys[:rows, :, :end], all_values[:rows, :, :end]

    def view(self, length: int) -> Buffers:
        """The first `length` positions of the rows in use."""
        rows = len(self.lengths)
        return [(keys[:rows, :, :length], values[:rows, :, :length]) for keys, values in self.buffers]

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for pair in self.buffers for tensor in pair]


class LlamaSteps:
    """Prefill and decoding steps of one decoder; `fits` says which decoders are supported."""

    def __init__(self, decoder: Any, parts: LayerParts | None = None):
        """`decoder` is a `LlamaModel` or `MistralModel`; `parts` are compiled or as written."""
        self.decoder = decoder
        self.layers = decoder.layers[: decoder.config.num_hidden_layers]
        self.parts = parts or LayerParts()
        self._flat = self.parts != LayerParts()

    @staticmethod
    def fits(decoder: Any, longest: int | None = None) -> bool:
        """Whether the decoder is supported, for sequences of `longest` tokens (`llama_layers.is_supported`)."""
        return is_supported(decoder, longest)

    def prefill(self, states: torch.Tensor, lengths: Sequence[int], keys: KeyValueCache) -> torch.Tensor:
        """(B, H) after the norm at each row's last token, `lengths[r]` of `states` (B, R, H) being its own.

        The tokens already in `keys`, equally many in each row, come before.
        """
        before, (rows, count) = keys.lengths[0], states.shape[:2]
        angles = rotary_angles(self.decoder, states, torch.arange(before, before + count, device=states.device)[None])
        for number, layer in enumerate(self.layers[:-1]):
            queries, *new = self.before(layer, states, angles)
            attended = causal_attention(layer.self_attn, queries, *keys.write(number, new))
            states = self.after(layer, states, attended)
        layer, last = self.layers[-1], torch.tensor(lengths, device=states.device) - 1
        positions = torch.arange(rows, device=states.device)[:, None], last[:, None]
        queries, *new = queries_at(layer, states, angles, positions)
        written = keys.write(len(self.layers) - 1, new)
        keys.lengths = [before + length for length in lengths]
        seen = None
        if len(set(lengths)) > 1:
            seen = seen_keys(last + before, before + count)
        attended = masked_attention(layer.self_attn, queries, *written, seen)
        return self.normed(self.after(layer, states[positions], attended))[:, 0]

    def step(
        self, states: torch.Tensor, ends: torch.Tensor, buffers: Buffers, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, H) after the norm for one more token (B, 1, H) of every row, written at position `ends` (B,) of its row.

        `mask` (B, 1, 1, K) says which of the keys in `buffers` a row sees (`seen_keys`); None: all.
        """
        rows = torch.arange(len(ends), device=ends.device)
        angles = rotary_angles(self.decoder, states, ends[:, None])
        for layer, layer_buffers in zip(self.layers, buffers, strict=True):
            queries, *new = self.before(layer, states, angles)
            for buffer, part in zip(layer_buffers, new, strict=True):
                buffer[rows, :, ends] = part[:, :, 0]
            attended = masked_attention(layer.self_attn, queries, *layer_buffers, mask)
            states = self.after(layer, states, attended)
        return self.normed(states)[:, 0]

    def before(self, layer: Any, states: torch.Tensor, angles: Angles) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values, each (B, h, R, d), of `states` (B, R, H).

        Compiled parts take all tokens as one row: batches and rows of one are no further shapes to compile.
        """
        if not self._flat:
            return self.parts.before(layer, states, angles)
        rows, count = states.shape[:2]
        cosines, sines = (_one_row(angle.expand(rows, -1, -1)) for angle in angles)
        made = self.parts.before(layer, _one_row(states), (cosines, sines))
        return tuple(part[0].view(part.shape[1], rows, count, -1).transpose(0, 1) for part in made)

    def after(self, layer: Any, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """(B, R, H): the rest of a layer, from its input (B, R, H) and the attention's result (B, h, R, d)."""
        if not self._flat:
            return self.parts.after(layer, states, attended)
        heads, size = attended.shape[1], attended.shape[3]
        flat = _one_row(attended.transpose(1, 2).flatten(2)).view(1, -1, heads, size)
        return self.parts.after(layer, _one_row(states), flat.transpose(1, 2)).view(states.shape)

    def normed(self, states: torch.Tensor) -> torch.Tensor:
        """The last layer's output after the decoder's norm."""
        normed: torch.Tensor = self.decoder.norm(states)
        return normed


def _one_row(states: torch.Tensor) -> torch.Tensor:
    """(B, R, H) as (1, B x R, H), always with the same strides."""
    flat = states.reshape(-1, states.shape[-1])
    if flat.stride() != (flat.shape[1], 1):
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat[None]


def seen_keys(ends: torch.Tensor, count: int) -> torch.Tensor:
    """(B, 1, 1, count): whether a key is at or before the row's position `ends` (B,); one for all layers."""
    return (torch.arange(count, device=ends.device) <= ends[:, None])[:, None, None]
