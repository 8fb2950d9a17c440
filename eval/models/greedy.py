"""Greedy answers of a batch, token for token those of transformers' `generate(do_sample=False)`, and faster.

    greedy = Greedy(LanguageModel(decoder, head, words, config), image_token=32000)
    rows = greedy.answers(ids, embeddings, mask, Stop(frozenset({2}), limit=64))

- The common beginning of all questions before the image (the system prompt) goes through the model once; its keys are
  kept and copied before every row.
- In the prefill, the last layer and the head run at the last position only; decoding appends to one buffer of keys
  (`eval.models.llama_decoder`).
- A row that has ended is removed from the batch at once.

Other decoders than LLaMA's, and attention with a sliding window, go through transformers' own forward and cache
(`_by_transformers`), which leaves rows in the batch until half of them have ended. Tensor shapes: `B` questions, `T`
tokens of the longest, `H` hidden size, `V` vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from eval.models.cpu_matmul import fast_products
from eval.models.llama_decoder import KeyValueCache, LlamaSteps

LOST = -1  # in place of a token id where the logits are not finite


@dataclass(frozen=True)
class LanguageModel:
    """A decoder without its head, the head, the word embeddings, and the language model's config."""

    decoder: nn.Module
    head: nn.Module
    words: nn.Module
    config: Any


@dataclass(frozen=True)
class Stop:
    """When an answer ends: with one of the `ends`, which is its last token, or after `limit` tokens."""

    ends: frozenset[int]
    limit: int


class Greedy:
    """Greedy decoding with one language model; `row_steps` counts rows over all decoding steps so far."""

    def __init__(self, model: LanguageModel, image_token: int):
        """`image_token` is the image placeholder's id; only ids before it are shared."""
        self.model, self.image_token = model, image_token
        self.steps = LlamaSteps(model.decoder) if LlamaSteps.fits(model.decoder) else None
        self.row_steps = 0
        self._shared_ids: list[int] = []
        self._shared_keys: KeyValueCache | None = None

    @torch.inference_mode()
    def answers(
        self, ids: Sequence[Sequence[int]], embeddings: torch.Tensor, mask: torch.Tensor, stop: Stop
    ) -> list[list[int] | None]:
        """New tokens of every question, the end token included; None where the head's output was not finite.

        `ids` are the questions' own, `embeddings` (B, T, H) what the decoder takes for them, padded on the left where
        `mask` (B, T) is 0.
        """
        with fast_products(embeddings):
            if self.steps is None:
                return self._by_transformers(embeddings, mask, stop)
            return self._by_steps(self.steps, ids, embeddings, stop)

    def _by_steps(
        self, steps: LlamaSteps, ids: Sequence[Sequence[int]], embeddings: torch.Tensor, stop: Stop
    ) -> list[list[int] | None]:
        shared = self._share(steps, ids, embeddings)
        before = shared.lengths[0] if shared else 0
        lengths = [len(row) - before for row in ids]
        keys = KeyValueCache.room(steps, len(ids), before + max(lengths) + stop.limit)
        if shared:
            keys.begin(shared)
        states = steps.prefill(_padded_right(embeddings, lengths), lengths, keys)
        rows = _Rows(len(ids), stop)
        while True:
            tokens = _best(self.model.head(states))
            for row in rows.take(tokens.tolist()):
                keys.drop(row)
                tokens[row] = tokens[len(keys.lengths)]
            active = len(keys.lengths)
            if not active:
                return rows.answers
            self.row_steps += active
            states = steps.step(self.model.words(tokens[:active, None]), keys)

    def _share(self, steps: LlamaSteps, ids: Sequence[Sequence[int]], embeddings: torch.Tensor) -> KeyValueCache | None:
        """Keys of the questions' common beginning, reused from the previous batch if it began alike."""
        common = common_beginning(ids, self.image_token)
        held = len(self._shared_ids)
        fits = self._shared_ids == common[:held]
        if not fits or len(ids) * (len(common) - held) > len(common):  # a row's work, against every row's
            self._shared_ids, held = common, len(common)
            self._shared_keys = KeyValueCache.room(steps, 1, held) if held else None
            if self._shared_keys is not None:
                start = embeddings.shape[1] - len(ids[0])
                steps.prefill(embeddings[:1, start : start + held], [held], self._shared_keys)
        return self._shared_keys

    def _by_transformers(self, embeddings: torch.Tensor, mask: torch.Tensor, stop: Stop) -> list[list[int] | None]:
        """The same with transformers' cache: rows that have ended are removed once they are half of the batch."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # (B, T): the first real token of each row has position 0
        cache, rows = DynamicCache(config=self.model.config), _Rows(len(mask), stop, patient=True)
        while True:
            states = self.model.decoder(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state  # (B, T, H)
            tokens = _best(self.model.head(states[:, -1]))
            rows.take(tokens.tolist())
            kept = rows.keep()
            if not rows.waiting:
                return rows.answers
            if kept is not None:
                chosen = torch.tensor(kept, device=mask.device)
                cache.batch_select_indices(chosen)
                tokens, mask, positions = tokens[chosen], mask[chosen], positions[chosen]
            self.row_steps += len(tokens)
            embeddings = self.model.words(tokens[:, None].clamp(min=0))  # (B, 1, H)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            positions = positions[:, -1:] + 1


class _Rows:
    """The question of each row of the batch, and the tokens generated for each question."""

    def __init__(self, count: int, stop: Stop, *, patient: bool = False):
        self._tokens: list[list[int]] = [[] for _ in range(count)]
        self.stop, self.patient = stop, patient
        self._owners = list(range(count))  # the question of each row

    def _ended(self, owner: int) -> bool:
        tokens = self._tokens[owner]
        return len(tokens) >= self.stop.limit or bool(tokens and (tokens[-1] in self.stop.ends or tokens[-1] == LOST))

    @property
    def answers(self) -> list[list[int] | None]:
        """The tokens of each answer, None where the logits were not finite."""
        return [None if tokens and tokens[-1] == LOST else tokens for tokens in self._tokens]

    @property
    def waiting(self) -> bool:
        """Whether an answer has not ended."""
        return not all(map(self._ended, self._owners))

    def take(self, tokens: Sequence[int]) -> list[int]:
        """Append one token per row. Returns the rows to drop one by one, each replaced by the last row."""
        for owner, token in zip(self._owners, tokens, strict=True):
            if not self._ended(owner):
                self._tokens[owner].append(token)
        if self.patient:
            return []
        dropped = [row for row, owner in enumerate(self._owners) if self._ended(owner)][::-1]
        for row in dropped:
            self._owners[row] = self._owners[-1]
            self._owners.pop()
        return dropped

    def keep(self) -> list[int] | None:
        """The rows that have not ended, once they are at most half of the batch, which they then are; else None."""
        open_rows = [row for row, owner in enumerate(self._owners) if not self._ended(owner)]
        if 2 * len(open_rows) > len(self._owners):
            return None
        self._owners = [self._owners[row] for row in open_rows]
        return open_rows


def _best(logits: torch.Tensor) -> torch.Tensor:
    """(B,) the most probable token of each row of (B, V); `LOST` where the largest logit is no number."""
    values, tokens = logits.float().max(-1)
    return torch.where(values.isfinite(), tokens, LOST)


def common_beginning(ids: Sequence[Sequence[int]], image_token: int) -> list[int]:
    """The ids that all rows begin with, up to the image or a row's last token: at least one token stays per row.

    >>> common_beginning([[1, 5, 6, 9, 9, 7], [1, 5, 8, 9, 9]], image_token=9)
    [1, 5]
    """
    rows = [list(row) for row in ids]
    first, last = min(rows), max(rows)  # in sorted order, these two differ the earliest
    shared = range(min(map(len, rows)) - 1)
    end = next((at for at in shared if first[at] != last[at] or first[at] == image_token), len(shared))
    return first[:end]


def _padded_right(embeddings: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """(B, R, H): the last `lengths[r]` of each row (B, T, H) moved to the front, zeros behind."""
    longest = max(lengths)
    if min(lengths) == longest:
        return embeddings[:, embeddings.shape[1] - longest :]
    moved = embeddings.new_zeros(len(embeddings), longest, embeddings.shape[2])
    for row, length in enumerate(lengths):
        moved[row, :length] = embeddings[row, embeddings.shape[1] - length :]
    return moved
