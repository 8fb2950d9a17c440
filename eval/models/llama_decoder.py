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
import torch.nn.functional as F
from transformers import LlamaModel, MistralModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

ROPES = ("default", "linear", "llama3")  # types whose angles do not depend on the text's length


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
        if type(decoder) not in (LlamaModel, MistralModel):
            return False
        windowed = getattr(decoder.config, "sliding_window", None) is not None
        return not windowed and bool(decoder.rotary_emb.rope_type in ROPES)

    def prefill(self, states: torch.Tensor, lengths: list[int], keys: KeyValueCache) -> torch.Tensor:
        """(B, H) after the norm at each row's last token, `lengths[r]` of `states` (B, R, H) being its own.

        The tokens already in `keys`, equally many in each row, come before.
        """
        before, (rows, count) = keys.lengths[0], states.shape[:2]
        angles = self._angles(states, torch.arange(before, before + count, device=states.device)[None])
        for number, layer in enumerate(self.layers[:-1]):
            queries, *new = self._project(layer, states, angles)
            attended = _causal(layer.self_attn, queries, *keys.write(number, new))
            states = _close(layer, states, attended)
        layer, last = self.layers[-1], torch.tensor(lengths, device=states.device) - 1
        queries, *new = self._project(layer, states, angles, (torch.arange(rows, device=states.device), last))
        written = keys.write(len(self.layers) - 1, new)
        keys.lengths = [before + length for length in lengths]
        own = states[torch.arange(rows, device=states.device), last][:, None]  # (B, 1, H)
        closed = _close(layer, own, _newest(layer.self_attn, queries, *written, _seen(keys.lengths, states.device)))
        return self._normed(closed)

    def step(self, states: torch.Tensor, keys: KeyValueCache) -> torch.Tensor:
        """(B, H) after the norm for one more token (B, 1, H) of every row."""
        lengths = torch.tensor(keys.lengths, device=states.device)
        ends = torch.arange(len(lengths), device=states.device), lengths
        angles = self._angles(states, lengths[:, None])
        grown = [length + 1 for length in keys.lengths]
        mask = _seen(grown, states.device)
        for number, layer in enumerate(self.layers):
            queries, *new = self._project(layer, states, angles)
            attended = _newest(layer.self_attn, queries, *keys.write(number, new, ends), mask)
            states = _close(layer, states, attended)
        keys.lengths = grown
        return self._normed(states)

    def _normed(self, states: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.decoder.norm(states)
        return normed[:, 0]

    def _angles(self, states: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, sines = self.decoder.rotary_emb(states, position_ids=positions)
        return cosines, sines

    def _project(
        self,
        layer: Any,
        states: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        positions: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values (B, h, R, d) of a layer; queries only at `positions` (rows, columns) if given."""
        attention, normed = layer.self_attn, layer.input_layernorm(states)
        chosen = normed if positions is None else normed[positions][:, None]
        heads = [
            product(given).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for product, given in (
                (attention.q_proj, chosen),
                (attention.k_proj, normed),
                (attention.v_proj, normed),
            )
        ]
        if positions is None:
            queries, keys = apply_rotary_pos_emb(heads[0], heads[1], *angles)
        else:
            here = [angle.expand(len(normed), -1, -1)[positions][:, None] for angle in angles]  # (B, 1, d)
            queries, _ = apply_rotary_pos_emb(heads[0], heads[0], *here)
            _, keys = apply_rotary_pos_emb(heads[1], heads[1], *angles)
        return queries, keys, heads[2]


def _causal(attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The last R of K tokens see all before them and themselves.

    Kernels know causal attention of a square only; K - R rows of zeros before the queries make one, and are cheap: they
    see little.
    """
    before = keys.shape[2] - queries.shape[2]
    square = F.pad(queries, (0, 0, before, 0)) if before else queries
    return F.scaled_dot_product_attention(
        square,
        keys,
        values,
        is_causal=True,
        scale=attention.scaling,
        enable_gqa=attention.num_key_value_groups > 1,
    )[:, :, before:]


def _newest(
    attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """One query a row (B, h, 1, d) sees the row's keys, itself the last of them."""
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        scale=attention.scaling,
        enable_gqa=attention.num_key_value_groups > 1,
    )


def _seen(lengths: list[int], device: torch.device) -> torch.Tensor | None:
    """(B, 1, 1, K) whether a key is among the first `lengths[r]` of its row; None where all are. One for all layers."""
    if len(set(lengths)) == 1:
        return None
    positions = torch.arange(max(lengths), device=device)
    return (positions < torch.tensor(lengths, device=device)[:, None])[:, None, None]


def _close(layer: Any, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """What a layer does after its attention (B, h, R, d)."""
    states = states + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
    closed: torch.Tensor = states + layer.mlp(layer.post_attention_layernorm(states))
    return closed
