"""Attention of tree nodes to the prompt and to their ancestors: with one mask, or split where the prompt needs none.

Split, the prompt's part runs without a mask, so by the fastest kernel, the tree's part is small and plain, and both are
combined by their log-sum-exps. Tensor shapes: `B` prompts, `N` nodes, `P` positions of the prompt, `S` slots in use
with the new nodes' included, `h` heads, `g` heads of keys, `d` head size.
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
        prompt, prompt_weight = _unmasked(
            folded, keys[:, :, : self.start], values[:, :, : self.start], attention.scaling
        )
        mask = self.mask.repeat(1, 1, heads // groups, 1)
        scores = folded @ keys[:, :, self.start :].transpose(2, 3) * attention.scaling + mask  # (B, g, h / g x N, S)
        tree_weight = scores.float().logsumexp(-1)
        tree = (scores.float() - tree_weight[..., None]).exp().to(values.dtype) @ values[:, :, self.start :]
        share = torch.sigmoid(prompt_weight - tree_weight)[..., None]  # of the prompt in the softmax over both
        both: torch.Tensor = (prompt * share + tree * (1 - share)).to(queries.dtype)
        return both.view(rows, heads, nodes, size)


def _unmasked(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to all keys, (B, g, Q, d), and the log-sum-exp of the scores, (B, g, Q) in fp32."""
    if queries.device.type == "cuda":
        found = torch.ops.aten._scaled_dot_product_flash_attention(queries, keys, values, 0.0, False, scale=scale)
    else:
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, 0.0, False, scale=scale
        )
    return found[0], found[1].float()


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
