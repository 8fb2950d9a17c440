"""Attention of a decoder's last layer, which is needed at few positions: those that predict a target.

    attended = attend_at(layer, states, angles, (rows, columns), mask, prefix_kv)      # (B, h, Q, d)

Keys are needed of all tokens. Values are linear in a token's states, so the average of the values is the value of the
averaged states: with few queries the values of all tokens are never computed. Tensor shapes: `B` rows, `Q` queries and
`R` tokens of a row, `P` tokens of the prefix, `H` hidden size, `h` heads, `d` head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from train.models.llama_layers import Angles, behind, by_heads, masked_attention, queries_at, rotated_at


def attend_at(
    layer: Any,
    states: torch.Tensor,
    angles: Angles,
    positions: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
    prefix_kv: Sequence[torch.Tensor],
) -> torch.Tensor:
    """(B, h, Q, d): what the tokens of `states` (B, R, H) at `positions` (rows, columns), each (B, Q), attend to.

    `mask` (B or 1, 1, Q, P + R) is true for the keys of each: those of `prefix_kv`, keys and values (1, heads, P, d)
    or (), and those of `states`.
    """
    if averages_states(layer.self_attn, positions[1].shape[1], states.shape[1]):
        return _average_of_states(layer, states, angles, positions, mask, prefix_kv)
    queries, keys, values = queries_at(layer, states, angles, positions)
    if prefix_kv:
        keys, values = (behind(prefix, own) for prefix, own in zip(prefix_kv, (keys, values), strict=True))
    return masked_attention(layer.self_attn, queries, keys, values, mask)


def averages_states(attention: Any, queries: int, tokens: int) -> bool:
    """Whether averaged states cost less than half of the values of all `tokens` of a row, for its `queries`.

    Only where values are one matrix product: no bias, whose average over prefix and tokens is another, and no LoRA,
    whose dropout is drawn token by token.
    """
    product: Any = attention.v_proj
    if type(product) is not nn.Linear or getattr(product, "bias", None) is not None:
        return False
    width = attention.num_key_value_groups * product.out_features  # h x d
    averages = queries * width // attention.head_dim
    return bool(2 * averages * (tokens + product.out_features) < tokens * product.out_features)


def _average_of_states(
    layer: Any,
    states: torch.Tensor,
    angles: Angles,
    positions: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor,
    prefix_kv: Sequence[torch.Tensor],
) -> torch.Tensor:
    attention, groups = layer.self_attn, layer.self_attn.num_key_value_groups
    normed = layer.input_layernorm(states)
    queries = by_heads(attention, attention.q_proj(normed[positions]))
    queries, keys = rotated_at(queries, by_heads(attention, attention.k_proj(normed)), angles, positions)
    keys = (behind(prefix_kv[0], keys) if prefix_kv else keys).repeat_interleave(groups, 1)  # (B, h, P + R, d)
    scores = (queries @ keys.transpose(2, 3)).float() * attention.scaling
    shares = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(states.dtype)  # (B, h, Q, P + R)
    before, heads = keys.shape[2] - states.shape[1], torch.arange(queries.shape[1], device=states.device)
    averages = shares[..., before:].flatten(1, 2) @ normed  # (B, h x Q, H)
    values = attention.v_proj(averages).view(*queries.shape[:3], -1, attention.head_dim)  # of all heads
    attended: torch.Tensor = values[:, heads, :, heads // groups].transpose(0, 1)  # each head's own
    if prefix_kv:
        attended = attended + shares[..., :before] @ prefix_kv[1].repeat_interleave(groups, 1)
    return attended
