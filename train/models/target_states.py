"""The decoder's hidden states at target positions, without work that changes neither the loss nor a gradient.

    states = TargetStates(model, family, ForwardOptions(prefix))
    chosen, anchor = states(batch, embed, rows, positions)       # (M, H): what predicts each target

For a decoder of LLaMA's type (`llama_layers.is_supported`):

- The last layer computes queries, output projection and MLP at target positions only, and averages states instead of
  values where that is less work (`last_attention`).
- The last token of a conversation predicts nothing and does not run.
- Where the language model is frozen, keys and values of the constant beginning of all conversations (the system prompt)
  are computed once, without a gradient, and its tokens are not run again.

Loss and gradients are those of the whole forward pass, up to rounding. transformers runs all other decoders, and packed
rows where the kernel is flash_attention_2 and PyTorch has no kernel for such rows.
Tensor shapes: `B` rows, `T` tokens a row, `P` tokens of the prefix, `M` targets, `Q` most targets of a row, `H` hidden
size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.models.batch import Batch, attention_arguments
from train.models.embedded import Embedded
from train.models.last_attention import attend_at
from train.models.layer_parts import LayerParts, compile_layers
from train.models.llama_layers import (
    Angles,
    after_attention,
    behind,
    causal_attention,
    is_supported,
    masked_attention,
    queries_keys_values,
    rotary_angles,
    sliding_window,
)
from train.models.token_layout import Layout, last_mask, padded_targets, select_tokens
from train.models.trainable import TrainableFamily
from train.models.types import Family
from train.models.varlen_attention import kernel_for

Embed = Callable[[Batch], Embedded]
"""A batch to its embeddings, image features included."""
KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, each (1, heads, P, head size)."""


def modules_of(model: Any, family: Family, part: str) -> list[nn.Module]:
    """The modules of `model` whose parameters belong to `part`."""
    return [module for name, module in model.named_modules() if family.part_of(f"{name}.") == part]


@dataclass(frozen=True)
class ForwardOptions:
    """How the loss is computed; neither the loss nor a gradient depends on it, up to rounding."""

    prefix: tuple[int, ...] = ()
    """Token ids that every conversation begins with (`train.chat.prefix`)."""
    skip_unneeded_compute: bool = True
    """`model.skip_unneeded_compute`; without it, transformers' whole forward pass is run."""
    longest: int | None = None
    """Tokens of the longest sequence (`chat.max_length`); None: any."""
    kernels: str = "none"
    """`model.kernels`, resolved: `none`, `compile` or `liger`."""
    selective_checkpointing: bool = False
    """Whether what follows a layer's attention is recomputed in the backward pass."""
    deterministic: bool = False
    """`train.deterministic`: layers that transformers runs are not compiled: the first batch decides their kernels."""


class TargetStates:
    """Runs the decoder on a batch and returns its normalized last hidden states at the target positions."""

    def __init__(self, model: Any, family: TrainableFamily, options: ForwardOptions):
        """`model` is one of the `family`; with Liger's kernels, its norms are computed by them from now on."""
        self.options = options
        self.parts = LayerParts.of(options.kernels, family.decoder(model))
        if options.kernels == "compile" and not options.deterministic:
            flash = family.attention_kernel(model).startswith("flash_attention")  # not compiled in transformers' layers
            left = [] if family.compiled_vision else modules_of(model, family, "vision")
            compile_layers(model, leave=[*left, family.decoder(model)] if flash else left)
        self.model = model
        self.family = family
        self._prefix_keys: list[KeysValues] | None = None

    @property
    def _like(self) -> torch.Tensor:
        """A tensor with the device and the type of the decoder's states."""
        weight: torch.Tensor = next(self.family.word_embeddings(self.model).parameters())
        return weight

    def runs_own_decoder_loop(self, *, packed: bool) -> bool:
        """Whether the decoder is run by this module, not by transformers."""
        return self.why_transformers(packed=packed) is None

    def why_transformers(self, *, packed: bool) -> str | None:
        """Why transformers runs the decoder, as a phrase; None where this module does."""
        decoder: Any = self.family.decoder(self.model)
        kernel = self.family.attention_kernel(self.model)
        if not self.options.skip_unneeded_compute:
            return "with model.skip_unneeded_compute: false"
        standard = (
            type(self.family).decode is TrainableFamily.decode
            and type(self.family).positions is Family.positions
            and type(self.family).encode_layers is Family.encode_layers
        )
        window = sliding_window(decoder.config)
        if standard and is_supported(decoder, longest=0) and not is_supported(decoder, self.options.longest):
            return f"with a sliding window of {window} tokens and chat.max_length {self.options.longest}"
        if not standard or not is_supported(decoder, self.options.longest):
            return f"for the decoder of {self.family.name} with {type(decoder).__name__}"
        if kernel not in ("sdpa", "flash_attention_2"):
            return f"with model.attention: {kernel}"
        if packed and kernel != "sdpa" and kernel_for(self._like) is None:
            return f"for packed rows with model.attention: {kernel} and PyTorch before 2.10"
        return "with attention dropout" if decoder.config.attention_dropout else None

    def __call__(
        self, batch: Batch, embed: Embed, rows: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (M, H) at `rows` and `positions` (M,), and a scalar that depends on the decoder also without targets.

        In ZeRO 3 every rank must call this equally often.
        """
        if not self.runs_own_decoder_loop(packed=batch.packed):
            embedded = embed(batch)
            attention = attention_arguments(batch, self.family.attention_kernel(self.model), embedded.states.dtype)
            states = self.family.decode(self.model, embedded, batch, attention)
            return states[rows, positions], states[:, 0].float().sum()
        keys = self._keys_of_prefix() if self._reuses_prefix else None
        shared = batch.shared_prefix if keys else 0
        layout = select_tokens(batch, rows, positions, shared, self._like)
        prefix_kv = [tuple(part[:, :, :shared] for part in pair) for pair in keys] if keys and shared else None
        # read from the device before anything long is launched: the host would wait for it
        targets = padded_targets(layout, len(layout.batch.input_ids))
        return self._run_layers(embed(layout.batch).states, layout, targets, prefix_kv)

    @cached_property  # asked by every forward pass; what trains is chosen before the first one
    def _reuses_prefix(self) -> bool:
        """Only a frozen language model has the same keys for ever."""
        return bool(self.options.prefix) and not any(
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
            states = words(torch.tensor([self.options.prefix], device=device))
            angles = rotary_angles(decoder, states, torch.arange(len(self.options.prefix), device=device)[None])
            found = []
            for layer in decoder.layers:
                queries, keys, values = queries_keys_values(layer, states, angles)
                found.append((keys, values))
                states = after_attention(layer, states, causal_attention(layer.self_attn, queries, keys, values))
            self._prefix_keys = found
        return self._prefix_keys

    def _run_layers(
        self,
        states: torch.Tensor,
        layout: Layout,
        targets: tuple[torch.Tensor, torch.Tensor],
        prefix_kv: list[tuple[torch.Tensor, ...]] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All layers but the last at all positions, the last and the norm at the targets."""
        decoder: Any = self.family.decoder(self.model)
        angles = rotary_angles(decoder, states, layout.positions)
        kv_of_layers = prefix_kv or [()] * len(decoder.layers)
        selective = self.model.training and self.options.selective_checkpointing
        parts = self.parts.recomputing() if selective else self.parts
        for layer, layer_kv in zip(decoder.layers[:-1], kv_of_layers, strict=False):
            if self.model.training and layer.gradient_checkpointing:
                states = checkpoint(run_layer, parts, layer, states, angles, layout, layer_kv, use_reentrant=False)
            else:
                states = run_layer(parts, layer, states, angles, layout, layer_kv)
        columns, slots = targets
        rows = torch.arange(len(states), device=states.device)[:, None]
        layer = decoder.layers[-1]
        attended = attend_at(layer, states, angles, (rows, columns), last_mask(layout, columns), kv_of_layers[-1])
        last = decoder.norm(after_attention(layer, states[rows, columns], attended))  # (B, Q, H)
        return last[layout.targets[0], slots], last[:, 0].float().sum()


def run_layer(
    parts: LayerParts,
    layer: Any,
    states: torch.Tensor,
    angles: Angles,
    layout: Layout,
    prefix_kv: tuple[torch.Tensor, ...],
) -> torch.Tensor:
    """(B, T, H) to (B, T, H); `prefix_kv`: keys and values that come before those of all rows, or ()."""
    queries, keys, values = parts.before(layer, states, angles)
    if prefix_kv:
        keys, values = (behind(prefix, own) for prefix, own in zip(prefix_kv, (keys, values), strict=True))
    if layout.packed is not None:
        attended = layout.packed.attend(layer.self_attn, queries, keys, values)
    elif layout.mask is not None:
        attended = masked_attention(layer.self_attn, queries, keys, values, layout.mask)
    else:
        attended = causal_attention(layer.self_attn, queries, keys, values)
    return parts.after(layer, states, attended)
