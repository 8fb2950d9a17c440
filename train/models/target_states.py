"""The decoder's hidden states at target positions, without work that changes neither the loss nor a gradient.

    states = TargetStates(model, family, prefix=renderer_prefix)
    chosen, anchor = states(batch, embed, rows, positions)       # (M, H): what predicts each target

For a decoder of LLaMA's type (`llama_layers.is_supported`) with the kernel sdpa:

- The last layer computes queries, output projection and MLP at target positions only.
- The last token of a conversation predicts nothing and does not run.
- Where the language model is frozen, keys and values of the constant beginning of all conversations (the system prompt)
  are computed once, without a gradient, and its tokens are not run again.

Both give the same loss and gradients as the whole forward pass, up to rounding. Other decoders run as transformers
runs them. Tensor shapes: `B` rows, `T` tokens a row, `P` tokens of the prefix, `M` targets, `Q` most targets of a row,
`H` hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from train.models.batch import Batch, attention_arguments
from train.models.llama_layers import (
    Angles,
    after_attention,
    causal_attention,
    is_supported,
    masked_attention,
    queries_at,
    queries_keys_values,
    rotary_angles,
)
from train.models.types import TrainableFamily

Embed = Callable[[Batch], torch.Tensor]
"""A batch to its embeddings (B, T, H), image features included."""
KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, each (1, heads, P, head size)."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch are once those that need not run are left out.

    `mask` (1, 1, T, P + T) says which keys a token attends to; None: the rows are causal, each by itself.
    """

    batch: Batch  # with the tokens that run
    positions: torch.Tensor  # (1, T) of the rotary embedding
    mask: torch.Tensor | None
    targets: tuple[torch.Tensor, torch.Tensor]  # rows and columns (M,) in `batch`


class TargetStates:
    """Runs the decoder on a batch and returns its normalized last hidden states at the target positions."""

    def __init__(
        self, model: Any, family: TrainableFamily, prefix: tuple[int, ...] = (), *, exact_savings: bool = True
    ):
        """`prefix` are the token ids that every conversation begins with; the loss never depends on their states.

        `exact_savings` is `model.exact_savings`: without it, transformers' whole forward pass is run.
        """
        self.model = model
        self.family = family
        self.prefix = prefix
        self.exact_savings = exact_savings
        self._prefix_keys: list[KeysValues] | None = None

    @property
    def layer_by_layer(self) -> bool:
        """Whether the decoder is run by this module, not by transformers."""
        decoder: Any = self.family.decoder(self.model)
        return (
            self.exact_savings
            and type(self.family).decode is TrainableFamily.decode
            and is_supported(decoder)
            and self.family.attention_kernel(self.model) == "sdpa"
            and not decoder.config.attention_dropout
        )

    def __call__(
        self, batch: Batch, embed: Embed, rows: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (M, H) at `rows` and `positions` (M,), and a scalar that depends on the decoder also without targets.

        In ZeRO 3 every rank must call this equally often.
        """
        if not self.layer_by_layer:
            embeddings = embed(batch)
            attention = attention_arguments(batch, self.family.attention_kernel(self.model), embeddings.dtype)
            states = self.family.decode(self.model, embeddings, batch, attention)
            return states[rows, positions], states[:, 0].float().sum()
        keys = self._keys_of_prefix() if self._reuses_prefix else None
        shared = batch.shared_prefix if keys else 0
        layout = running_tokens(batch, rows, positions, shared)
        own = [tuple(part[:, :, :shared] for part in pair) for pair in keys] if keys and shared else None
        return self._narrow(embed(layout.batch), layout, own)

    @property
    def _reuses_prefix(self) -> bool:
        """Only a frozen language model has the same keys for ever."""
        return bool(self.prefix) and not any(
            parameter.requires_grad
            for name, parameter in self.model.named_parameters()
            if self.family.part_of(name) == "language"
        )

    @torch.no_grad()
    def _keys_of_prefix(self) -> list[KeysValues]:
        """Keys and values of the prefix in every layer, computed at the first call."""
        if self._prefix_keys is None:
            decoder: Any = self.family.decoder(self.model)
            words = self.family.word_embeddings(self.model)
            device = next(self.model.parameters()).device
            states = words(torch.tensor([self.prefix], device=device))
            angles = rotary_angles(decoder, states, torch.arange(len(self.prefix), device=device)[None])
            found = []
            for layer in decoder.layers:
                queries, keys, values = queries_keys_values(layer, states, angles)
                found.append((keys, values))
                states = after_attention(layer, states, causal_attention(layer.self_attn, queries, keys, values))
            self._prefix_keys = found
        return self._prefix_keys

    def _narrow(
        self, states: torch.Tensor, layout: Layout, prefix: list[tuple[torch.Tensor, ...]] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All layers but the last at all positions, the last and the norm at the targets."""
        decoder: Any = self.family.decoder(self.model)
        angles = rotary_angles(decoder, states, layout.positions)
        before = prefix or [()] * len(decoder.layers)
        for layer, own in zip(decoder.layers[:-1], before, strict=False):
            if self.model.training and layer.gradient_checkpointing:
                states = checkpoint(run_layer, layer, states, angles, layout.mask, own, use_reentrant=False)
            else:
                states = run_layer(layer, states, angles, layout.mask, own)
        columns, slots = padded_targets(layout, len(states))
        rows = torch.arange(len(states), device=states.device)[:, None]
        layer = decoder.layers[-1]
        queries, *new = queries_at(layer, states, angles, (rows, columns))
        mask = last_mask(layout, columns, before[-1][0].shape[2] if prefix else 0)
        keys, values = _joined(before[-1], new)
        attended = masked_attention(layer.self_attn, queries, keys, values, mask)
        last = decoder.norm(after_attention(layer, states[rows, columns], attended))  # (B, Q, H)
        return last[layout.targets[0], slots], last[:, 0].float().sum()


def run_layer(
    layer: Any, states: torch.Tensor, angles: Angles, mask: torch.Tensor | None, before: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """(B, T, H) to (B, T, H); `before` are keys and values that come before those of all rows, or ()."""
    queries, *new = queries_keys_values(layer, states, angles)
    keys, values = _joined(before, new)
    if mask is None:
        attended = causal_attention(layer.self_attn, queries, keys, values)
    else:
        attended = masked_attention(layer.self_attn, queries, keys, values, mask)
    return after_attention(layer, states, attended)


def _joined(before: tuple[torch.Tensor, ...], new: list[torch.Tensor]) -> list[torch.Tensor]:
    if not before:
        return new
    return [torch.cat([old.expand(len(own), -1, -1, -1), own], dim=2) for old, own in zip(before, new, strict=True)]


def running_tokens(batch: Batch, rows: torch.Tensor, positions: torch.Tensor, shared: int) -> Layout:
    """The batch without the first `shared` and the last token of each conversation; targets at `rows`, `positions`.

    At least one token remains of each.
    """
    device = batch.input_ids.device
    if not batch.packed:
        end = max(batch.input_ids.shape[1] - int(not batch.runs_last), shared + 1)
        places = torch.arange(shared, end, device=device)[None]
        return Layout(batch.with_tokens(slice(None), slice(shared, end)), places, None, (rows, positions - shared))
    sequence_ids = batch.sequence_ids[0]  # (T,)
    lengths = batch.lengths()
    offsets = torch.arange(len(sequence_ids), device=device) - (torch.cumsum(lengths, 0) - lengths)[sequence_ids]
    kept = (offsets >= shared) & (offsets < (lengths - int(not batch.runs_last)).clamp(min=shared + 1)[sequence_ids])
    columns = kept.nonzero()[:, 0]
    rest = batch.with_tokens(slice(None), columns)
    own, index = sequence_ids[columns], torch.arange(len(columns), device=device)
    visible = (own[:, None] == own[None, :]) & (index[:, None] >= index[None, :])  # (T, T)
    mask = torch.cat([visible.new_ones(len(columns), shared), visible], dim=1)[None, None]
    return Layout(rest, offsets[columns][None], mask, (rows, (kept.cumsum(0) - 1)[positions]))


def padded_targets(layout: Layout, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns (B, Q) of the targets of each row, filled up with column 0, and the slot in Q of each target (M,).

    Q is at least 1. The targets are in the order of their rows.
    """
    target_rows, target_columns = layout.targets
    counts = torch.bincount(target_rows, minlength=rows)
    starts = torch.cumsum(counts, 0) - counts
    slots = torch.arange(len(target_rows), device=target_rows.device) - starts[target_rows]
    columns = target_columns.new_zeros(rows, max(1, int(counts.max())))
    columns[target_rows, slots] = target_columns
    return columns, slots


def last_mask(layout: Layout, columns: torch.Tensor, shared: int) -> torch.Tensor:
    """(B or 1, 1, Q, P + T): the keys that the tokens in `columns` (B, Q) attend to."""
    if layout.mask is not None:
        return layout.mask[:, :, columns[0]]
    keys = torch.arange(shared + layout.batch.input_ids.shape[1], device=columns.device)
    return (keys <= columns[:, :, None] + shared)[:, None]
