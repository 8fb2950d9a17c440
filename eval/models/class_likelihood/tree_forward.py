"""One prompt, many continuations: a language model's forward over the nodes of a tree behind a shared prefix.

    prefix = tree.prefill(inputs, room=512)          # keys and values of the prompt, computed once
    states = tree.extend(prefix, tokens, depths, visible)      # any nodes at once; each sees the prompt and its path

Every node gets the position it would have in its own sentence (prompt length + depth - 1) and an attention mask that
shows it the prompt and its ancestors only, so its hidden state is the one a forward over its own sentence would give.
A sliding window is part of that mask.

A LLaMA-type decoder is run layer by layer, as for greedy answers (`eval.models.question_prefill`); any other decoder of
transformers that takes `inputs_embeds`, a 4-D `attention_mask` and `position_ids`, by transformers: OPT, or Mistral
with a sliding window. Tensor shapes: `B` prompts, `P` tokens of the longest prompt, `N` nodes at a time, `S` slots
behind the prompt in use, `H` hidden size, `V` vocabulary.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from configs.errors import ConfigError
from eval.models.class_likelihood.slots import Prefix, SlotCache
from eval.models.class_likelihood.tree_attention import TreeAttention, additive, can_split
from eval.models.cpu_matmul import fast_products
from eval.models.decoder_input import DecoderInput
from eval.models.llama_decoder import LlamaSteps
from eval.models.question_prefill import QuestionPrefill
from train.models.layer_parts import LayerParts
from train.models.llama_layers import rotary_angles, sliding_window

HEAD_ROWS = {"cuda": 1024, "cpu": 256}  # positions whose logits are held at a time: 32 MiB at 32,000 tokens


class TreeForward:
    """A decoder with its head and word embeddings, and what the config says of windows and kernels.

    Raises `ConfigError` for attention kernels that take no mask, and for layers that do not all see the same.
    """

    def __init__(
        self,
        decoder: nn.Module,
        head: nn.Module,
        words: nn.Module,
        config: Any,
        *,
        image_token: int | None = None,
        parts: LayerParts | None = None,
    ):
        """`config` is the language model's; `image_token` and `parts` as in `eval.models.greedy`."""
        kernel = getattr(config, "_attn_implementation", "sdpa")
        if kernel not in ("sdpa", "eager"):
            raise ConfigError(f"attention is {kernel}, which takes no tree mask; set attention=sdpa for class scoring")
        if len(set(getattr(config, "layer_types", None) or ["all"])) > 1:
            raise ConfigError("the language model mixes kinds of attention layers; class scoring knows models of one")
        self.decoder, self.head, self.words, self.config = decoder, head, words, config
        self.window = sliding_window(config)
        self.steps = LlamaSteps(decoder, parts) if LlamaSteps.fits(decoder) else None
        self._question_prefill = QuestionPrefill(self.steps, image_token) if self.steps else None
        self.splits_attention = False
        """Whether attention is split into the prompt's part and the tree's, where no prompt is padded."""

    @torch.inference_mode()
    def prefill(self, inputs: DecoderInput, room: int, ids: Sequence[Sequence[int]] | None = None) -> Prefix:
        """Run prompts of P tokens; the last result's keys are overwritten.

        There is `room` for nodes behind them; more is made at need. `ids` are the prompts' own; needed if there is an
        `image_token`, and what all prompts begin with is then computed once for all batches.
        """
        with fast_products(inputs.states):
            lengths = [len(row) for row in ids] if ids is not None else inputs.mask.sum(1).tolist()
            if self._question_prefill is None:
                return self._prefill_by_transformers(inputs, room, lengths)
            before, device = self._question_prefill.tokens, inputs.mask.device
            keys, states = self._question_prefill(ids or [range(length) for length in lengths], inputs.states, room)
            longest = max(lengths)
            real = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
            cache = SlotCache(keys.view(longest + room), longest)
            made = self._question_prefill.tokens - before
            return Prefix(cache, real, self.head(states).float(), lengths, inputs.next_positions, made)

    def _prefill_by_transformers(self, inputs: DecoderInput, room: int, lengths: Sequence[int]) -> Prefix:
        cache = DynamicCache()  # without a config it keeps all keys, also beyond a sliding window
        states = self.decoder(past_key_values=cache, use_cache=True, **inputs.arguments).last_hidden_state
        logits, mask = self.head(states[:, -1]).float(), inputs.mask.bool()
        return Prefix(SlotCache.of(cache, room), mask, logits, lengths, inputs.next_positions, sum(lengths))

    @torch.inference_mode()
    def extend(self, prefix: Prefix, tokens: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, N, H) of nodes with `tokens` and `depths` (B, N), kept in the next N slots.

        `visible` (B, N, S + N) bool says which slots each node sees: its ancestors' and its own.
        """
        words = self.words(tokens)
        with fast_products(words):
            states = self._layers(prefix, words, depths, visible)
        prefix.cache.commit()
        return states

    def _layers(
        self, prefix: Prefix, states: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor
    ) -> torch.Tensor:
        """(B, N, H) through all layers and the norm."""
        dtype, cache = states.dtype, prefix.cache
        positions = prefix.next_positions[:, None] + depths - 1  # (B, N)
        if self.steps is not None and self.splits_attention and prefix.even and can_split(states):
            attend = TreeAttention("split", additive(visible[:, None], dtype), cache.start)
        else:
            sees = torch.cat([prefix.mask[:, None].expand(-1, visible.shape[1], -1), visible], 2)  # (B, N, P + S + N)
            if self.window is not None:
                sees = sees & self._inside_window(prefix, depths, visible)
            kind = "eager" if self.config._attn_implementation == "eager" else "masked"
            attend = TreeAttention(kind, additive(sees[:, None], dtype), cache.start)
        if self.steps is None:
            last: torch.Tensor = self.decoder(
                inputs_embeds=states,
                attention_mask=attend.mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            return last
        angles = rotary_angles(self.decoder, states, positions)
        for number, layer in enumerate(self.steps.layers):
            queries, *new = self.steps.before(layer, states, angles)
            attended = attend(layer.self_attn, queries, *cache.update(new[0], new[1], number))
            states = self.steps.after(layer, states, attended)
        return self.steps.normed(states)

    def _inside_window(self, prefix: Prefix, depths: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """(B, N, P + S + N): whether a key is among the last `window` before the query, itself included.

        A node's path is its last `depth` tokens, so of what it sees in the tree all is inside if the path is.
        """
        assert self.window is not None
        keys = prefix.mask.cumsum(1) - 1  # (B, P)
        queries = prefix.mask.sum(1)[:, None] + depths - 1  # (B, N)
        near = queries[..., None] - keys[:, None] < self.window  # (B, N, P)
        return torch.cat([near, torch.ones_like(visible)], 2)

    @torch.inference_mode()
    def log_probs(self, states: torch.Tensor, rows: Sequence[int], moved: torch.Tensor) -> torch.Tensor:
        """(M,) fp32 log-probabilities of tokens after the positions `rows` (M, ascending) of `states` (R, H).

        `moved` (2, M) has rows and tokens on the device. Nothing waits for the device.
        """
        size = HEAD_ROWS.get(states.device.type, HEAD_ROWS["cuda"])
        found, begin = [], 0
        for start in range(0, len(states), size):
            end = bisect_left(rows, start + size)
            if end == begin:
                continue
            with fast_products(states):
                logits = self.head(states[start : start + size]).float()  # (<= size, V)
            own = moved[0, begin:end] - start
            chosen = logits[own, moved[1, begin:end]]
            found.append(chosen - _log_normaliser(logits)[own])
            begin = end
        return torch.cat(found)


def _log_normaliser(logits: torch.Tensor) -> torch.Tensor:
    """(R,) log of the sum of exponentials of `logits` (R, V), which are used up: the copies would cost more time."""
    largest = logits.amax(-1, keepdim=True)
    return logits.sub_(largest).exp_().sum(-1).log_() + largest[:, 0]


def scoring_attention(choice: str, device: str, dtype: str) -> str:
    """The attention kernel for trees when the config says `choice`: one that takes a mask, so never flash-attn.

    With masks, the plain kernel is the faster one on a CPU in bf16 and the slower one everywhere else (measured).
    """
    return choice if choice != "auto" else "eager" if (device, dtype) == ("cpu", "bf16") else "sdpa"
