"""One prompt, many continuations: a language model's forward over the nodes of a tree behind a shared prefix.

    prefix = tree.prefill(embeddings, mask, room=512)          # keys and values of the prompt, computed once
    states = tree.extend(prefix, tokens, depths, visible)      # any nodes at once; each sees the prompt and its path

Every node gets the position it would have in its own sentence (prompt length + depth - 1) and an attention mask that
shows it the prompt and its ancestors only, so its hidden state is the one a forward over its own sentence would give.
A sliding window is part of that mask. Keys of the prompt are never copied: the tree's are written behind them into
one buffer a layer, and are dropped by moving a mark back.

Works with any decoder of transformers that takes `inputs_embeds`, a 4-D `attention_mask` and `position_ids`: LLaMA,
Mistral, OPT. Tensor shapes: `B` prompts, `P` tokens of the longest prompt, `N` nodes at a time, `S` slots behind the
prompt in use, `H` hidden size, `V` vocabulary, `h` heads, `d` head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from configs.errors import ConfigError
from eval.models.cpu_matmul import fast_products

HEAD_ROWS = {"cuda": 1024, "cpu": 256}  # positions whose logits are held at a time: 32 MiB at 32,000 tokens


class SlotCache:
    """Keys and values of the prompt with room for nodes behind it; the cache object of a decoder's attention."""

    def __init__(self, prompt: DynamicCache, room: int):
        """Move the prompt's keys (B, h, P, d) into buffers (B, h, P + room, d), layer by layer."""
        self.length = self.start = int(prompt.get_seq_length())
        self.buffers: list[tuple[torch.Tensor, ...]] = []
        for layer in prompt.layers:
            self.buffers.append((_with_room(layer.keys, room), _with_room(layer.values, room)))
            layer.keys = layer.values = None
        self._ahead = 0

    @property
    def used(self) -> int:
        """S, the slots behind the prompt that hold a node."""
        return self.length - self.start

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the name is the caller's
        """Number of cached tokens, for transformers."""
        return self.length

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys behind the others and return all; `commit` counts them once every layer has."""
        end = self.length + keys.shape[2]
        if end > self.buffers[layer_idx][0].shape[2]:
            self.buffers[layer_idx] = tuple(_with_room(buffer, end) for buffer in self.buffers[layer_idx])
        for buffer, new in zip(self.buffers[layer_idx], (keys, values), strict=True):
            buffer[:, :, self.length : end] = new
        self._ahead = keys.shape[2]
        all_keys, all_values = self.buffers[layer_idx]
        return all_keys[:, :, :end], all_values[:, :, :end]

    def commit(self) -> None:
        """Keep what the last forward wrote."""
        self.length, self._ahead = self.length + self._ahead, 0

    def keep(self, slots: list[int]) -> None:
        """Drop all nodes but those in `slots`, which then are slots 0, 1, 2, ..."""
        kept = torch.tensor(slots, dtype=torch.long, device=self.buffers[0][0].device) + self.start
        self.length = self.start + len(slots)
        for buffer in (tensor for pair in self.buffers for tensor in pair) if slots else ():
            buffer[:, :, self.start : self.length] = buffer[:, :, kept]

    def rows(self, rows: list[int]) -> "SlotCache":
        """A copy for some of the prompts, without nodes."""
        other = object.__new__(SlotCache)
        other.start = other.length = self.start
        other.buffers = [(keys[rows], values[rows]) for keys, values in self.buffers]
        other._ahead = 0
        return other


def _with_room(tensor: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, length, size = tensor.shape
    buffer = tensor.new_empty(rows, heads, length + room, size)
    buffer[:, :, :length] = tensor
    return buffer


@dataclass
class Prefix:
    """Prompts after their prefill: `mask` (B, P) of real tokens, `logits` (B, V) of the token that comes next."""

    cache: SlotCache
    mask: torch.Tensor
    logits: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """(B,) tokens of each prompt."""
        return self.mask.sum(1)

    def rows(self, rows: list[int]) -> "Prefix":
        """The same for some of the prompts."""
        return Prefix(self.cache.rows(rows), self.mask[rows], self.logits[rows])


class TreeForward:
    """A decoder with its head and word embeddings, and what the config says of windows and kernels.

    Raises `ConfigError` for attention kernels that take no mask, and for layers that do not all see the same.
    """

    def __init__(self, decoder: nn.Module, head: nn.Module, words: nn.Module, config: Any):
        """`config` is the language model's."""
        kernel = getattr(config, "_attn_implementation", "sdpa")
        if kernel not in ("sdpa", "eager"):
            raise ConfigError(f"attention is {kernel}, which takes no tree mask; set attention=sdpa for class scoring")
        if len(set(getattr(config, "layer_types", None) or ["all"])) > 1:
            raise ConfigError("the language model mixes kinds of attention layers; class scoring knows models of one")
        self.decoder, self.head, self.words, self.config = decoder, head, words, config
        self.window = _window(config)

    def prefill(self, embeddings: torch.Tensor, mask: torch.Tensor, room: int) -> Prefix:
        """Run prompts (B, P, H), padded on the left where `mask` (B, P) is 0.

        There is `room` for nodes behind them; more is made at need.
        """
        cache = DynamicCache()  # without a config it keeps all keys, also beyond a sliding window
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with fast_products(embeddings):
            states = self.decoder(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            logits = self.head(states[:, -1]).float()
        return Prefix(SlotCache(cache, room), mask.bool(), logits)

    def extend(self, prefix: Prefix, tokens: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, N, H) of nodes with `tokens` and `depths` (B, N), kept in the next N slots.

        `visible` (B, N, S + N) bool says which slots each node sees: its ancestors' and its own.
        """
        cache, lengths = prefix.cache, prefix.lengths
        sees = torch.cat([prefix.mask[:, None].expand(-1, tokens.shape[1], -1), visible], 2)  # (B, N, P + S + N)
        positions = lengths[:, None] + depths - 1  # (B, N)
        if self.window is not None:
            sees = sees & self._inside_window(prefix, positions, visible)
        words = self.words(tokens)
        with fast_products(words):
            states: torch.Tensor = self.decoder(
                inputs_embeds=words,
                attention_mask=_additive(sees[:, None], prefix.cache.buffers[0][0].dtype),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        cache.commit()
        return states

    def _inside_window(self, prefix: Prefix, positions: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """(B, N, P + S + N): whether a key is among the last `window` before the query, itself included.

        A node's path is its last `depth` tokens, so of what it sees in the tree all is inside if the path is.
        """
        assert self.window is not None
        keys = prefix.mask.cumsum(1) - 1  # (B, P)
        near = positions[..., None] - keys[:, None] < self.window  # (B, N, P)
        return torch.cat([near, torch.ones_like(visible)], 2)

    def log_probs(self, states: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(M,) fp32 log-probabilities of `tokens` (M,) after the positions `rows` (M,) of `states` (R, H)."""
        results = torch.empty(len(rows), dtype=torch.float32, device=states.device)
        size = HEAD_ROWS.get(states.device.type, HEAD_ROWS["cuda"])
        for start in range(0, len(states), size):
            with fast_products(states):
                logits = self.head(states[start : start + size]).float()  # (<= size, V)
            here = ((rows >= start) & (rows < start + size)).nonzero()[:, 0]
            chosen = logits[rows[here] - start, tokens[here]]
            results[here] = chosen - _log_normaliser(logits)[rows[here] - start]
        return results


def _log_normaliser(logits: torch.Tensor) -> torch.Tensor:
    """(R,) log of the sum of exponentials of `logits` (R, V), which are used up: the copies would cost more time."""
    largest = logits.amax(-1, keepdim=True)
    return logits.sub_(largest).exp_().sum(-1).log_() + largest[:, 0]


def scoring_attention(choice: str, device: str, dtype: str) -> str:
    """The attention kernel for trees when the config says `choice`: one that takes a mask, so never flash-attn.

    With masks, the plain kernel is the faster one on a CPU in bf16 and the slower one everywhere else (measured).
    """
    return choice if choice != "auto" else "eager" if (device, dtype) == ("cpu", "bf16") else "sdpa"


def _additive(sees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to be added to attention scores: 0 where seen, the lowest number elsewhere. All kernels take this form."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, torch.finfo(dtype).min)


def _window(config: Any) -> int | None:
    """Tokens that the model sees back, or None for all: Mistral has one by default, Qwen2 one that may be off."""
    kinds = set(getattr(config, "layer_types", None) or [])
    if getattr(config, "use_sliding_window", True) is False or kinds == {"full_attention"}:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)
