"""Attention of tree nodes to the prompt and to their ancestors: with one mask, or split where the prompt needs none.

Split, the prompt's part runs without a mask, so by the fastest kernel, and both parts are combined by their
log-sum-exps. On a CPU this is slower than one mask (`eval.benchmarks.class_scoring` measures both); on a GPU it has not
been measured, so it is not used by default.

Tensor shapes: `B` prompts, `N` nodes, `P` positions of the prompt, `S` slots in use with the new nodes' included, `h`
heads, `g` heads of keys, `d` head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.models.llama import modeling_llama

from train.models.llama_layers import masked_attention

KINDS = ("masked", "split", "eager")


@dataclass(frozen=True)
class TreeAttention:
    """What every layer's attention of one forward pass needs; `kind` is one of `KINDS`."""

    kind: str
    mask: torch.Tensor
    """(B, 1, N, P + S), or (B, 1, N, S) if split: added to scores."""
    start: int
    """P."""

    def __call__(self, attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(B, h, N, d): what `queries` (B, h, N, d) attend to in `keys` and `values` (B, g, P + S, d)."""
        if self.kind == "split":
            return self._split(attention, queries, keys, values)
        if self.kind == "eager":
            attended: torch.Tensor = modeling_llama.eager_attention_forward(
                attention, queries, keys, values, self.mask, attention.scaling
            )[0]
            return attended.transpose(1, 2)
        return masked_attention(attention, queries, keys, values, self.mask)

    def _split(self, attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Heads that share keys are further queries of one head: the prompt's part has no mask, and nodes no order."""
        rows, heads, nodes, size = queries.shape
        groups = keys.shape[1]
        folded = queries.reshape(rows, groups, -1, size)  # (B, g, h / g x N, d)
        mask = self.mask.repeat(1, 1, heads // groups, 1).expand(-1, groups, -1, -1)
        parts = (slice(None, self.start), None), (slice(self.start, None), mask)
        (prompt, prompt_weight), (tree, tree_weight) = (
            _with_weight(folded, keys[:, :, part], values[:, :, part], own_mask, attention.scaling)
            for part, own_mask in parts
        )
        share = torch.sigmoid(prompt_weight - tree_weight)[..., None]  # of the prompt in the softmax over both
        both: torch.Tensor = (prompt * share + tree * (1 - share)).to(queries.dtype)
        return both.view(rows, heads, nodes, size)


def _with_weight(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention (B, g, Q, d), and the log-sum-exp of the scores, (B, g, Q) in fp32."""
    kernels = torch.ops.aten
    parts = queries, keys, values
    if queries.device.type == "cpu":
        found = kernels._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, False, attn_mask=mask, scale=scale)
    elif mask is None:
        found = kernels._scaled_dot_product_flash_attention(*parts, 0.0, False, scale=scale)
    else:
        found = kernels._scaled_dot_product_efficient_attention(*parts, mask, True, scale=scale)
    return found[0], found[1][..., : queries.shape[2]].float()


def can_split(like: torch.Tensor) -> bool:
    """Whether there is a kernel that gives log-sum-exps for tensors like this: on a GPU flash's, of 16 bits."""
    return like.device.type == "cpu" or like.dtype in (torch.float16, torch.bfloat16)


def additive(sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to be added to attention scores: 0 where seen, the lowest number elsewhere. All kernels take this form.

    Its rows begin at multiples of 8 numbers: kernels of GPUs else copy it in every layer.
    """
    width = sees.shape[-1]
    whole = torch.empty(*sees.shape[:-1], -(-width // 8) * 8, dtype=dtype, device=sees.device)
    return whole[..., :width].zero_().masked_fill_(~sees, torch.finfo(dtype).min)
