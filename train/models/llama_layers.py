"""The parts of a LLaMA-type decoder layer, for programs that run a decoder layer by layer.

The arithmetic is transformers' own, module by module; what a caller does not need is left out. Tensor shapes: `B` rows,
`Q` queries and `K` keys of a row, `R` new tokens of a row, `H` hidden size, `h` heads, `d` head size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from transformers import LlamaModel, MistralModel, Qwen2Model
from transformers.models.llama import modeling_llama

from train.models.lora_linear import linears

Angles = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of the rotary embedding, each (1 or B, R, d)."""


@dataclass(frozen=True)
class Operations:
    """What a layer computes between its matrix products besides norms and attention."""

    rotate: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    """Queries and keys, each (B, h, R, d), cosines and sines to rotated ones; the two may be overwritten."""
    gate: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
    """MLP and the outputs of its two projections to the input of the third."""


AS_WRITTEN = Operations(
    rotate=modeling_llama.apply_rotary_pos_emb,
    gate=lambda mlp, gates, values: mlp.act_fn(gates) * values,
)
"""transformers' own."""

ROPES = ("default", "linear", "llama3")  # types whose angles do not depend on the text's length


DECODERS = (LlamaModel, MistralModel, Qwen2Model)


def is_supported(decoder: Any, longest: int | None = None) -> bool:
    """Whether `decoder` can be run by these functions on sequences of up to `longest` tokens (None: of any length).

    Not where it sees fewer tokens back, or has angles that change with the length.
    """
    if type(decoder) not in DECODERS or decoder.rotary_emb.rope_type not in ROPES:
        return False
    window = sliding_window(decoder.config)
    return window is None or (longest is not None and longest <= window)


def sliding_window(config: Any) -> int | None:
    """Tokens that a decoder sees back, itself included, or None for all: Qwen2's may be off, in some layers or all."""
    kinds = set(getattr(config, "layer_types", None) or [])
    if getattr(config, "use_sliding_window", True) is False or kinds == {"full_attention"}:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


def rotary_angles(decoder: Any, states: torch.Tensor, positions: torch.Tensor) -> Angles:
    """Angles of `positions` (1 or B, R), of the dtype of `states`."""
    cosines, sines = decoder.rotary_emb(states, position_ids=positions)
    return cosines, sines


def queries_keys_values(
    layer: Any, states: torch.Tensor, angles: Angles, operations: Operations = AS_WRITTEN
) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values, each (B, h, R, d), of all tokens of `states` (B, R, H)."""
    attention = layer.self_attn
    products = linears([attention.q_proj, attention.k_proj, attention.v_proj], layer.input_layernorm, states)
    queries, keys, values = (by_heads(attention, product) for product in products)
    queries, keys = operations.rotate(queries, keys, *angles)
    return queries, keys, values


def queries_at(
    layer: Any,
    states: torch.Tensor,
    angles: Angles,
    positions: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """As `queries_keys_values`, with queries (B, h, Q, d) only at `positions` (rows, columns), each (B, Q)."""
    attention, norm = layer.self_attn, layer.input_layernorm
    queries = by_heads(attention, linears([attention.q_proj], norm, states[positions])[0])
    keys, values = (
        by_heads(attention, product) for product in linears([attention.k_proj, attention.v_proj], norm, states)
    )
    return *rotated_at(queries, keys, angles, positions), values


def rotated_at(
    queries: torch.Tensor, keys: torch.Tensor, angles: Angles, positions: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (B, h, Q, d) of the tokens at `positions` (rows, columns), each (B, Q), and all keys, rotated."""
    chosen = [angle.expand(len(keys), -1, -1)[positions] for angle in angles]  # (B, Q, d)
    queries, _ = modeling_llama.apply_rotary_pos_emb(queries, queries, *chosen)
    _, keys = modeling_llama.apply_rotary_pos_emb(keys, keys, *angles)
    return queries, keys


def behind(prefix: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """(B, h, P + R, d): keys or values `own` (B, h, R, d) of each row, behind the `prefix` (1, h, P, d) of all."""
    return torch.cat([prefix.expand(len(own), -1, -1, -1), own], dim=2)


def by_heads(attention: Any, projected: torch.Tensor) -> torch.Tensor:
    """(B, R, h x d) to (B, h, R, d)."""
    return projected.view(*projected.shape[:-1], -1, attention.head_dim).transpose(1, 2)


def causal_attention(attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(B, h, Q, d): the last Q of K tokens attend to all tokens before them and to themselves.

    Kernels know causal attention of a square only; K - Q rows of zeros before the queries make one, and are cheap:
    they attend to few keys.
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


def masked_attention(
    attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """(B, h, Q, d): every query attends to the keys where `mask` (B or 1, 1, Q, K) is true; None: to all."""
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        scale=attention.scaling,
        enable_gqa=attention.num_key_value_groups > 1,
    )


def after_attention(
    layer: Any, states: torch.Tensor, attended: torch.Tensor, operations: Operations = AS_WRITTEN
) -> torch.Tensor:
    """(B, Q, H): the rest of a layer, from its input `states` (B, Q, H) and the attention's result (B, h, Q, d)."""
    states = states + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
    mlp, norm = layer.mlp, layer.post_attention_layernorm
    gates, values = linears([mlp.gate_proj, mlp.up_proj], norm, states)
    (finished,) = linears([mlp.down_proj], partial(operations.gate, mlp), gates, values)
    return states + finished
