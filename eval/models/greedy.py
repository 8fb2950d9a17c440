"""Greedy answers of a batch, token for token those of transformers' `generate(do_sample=False)`, and faster.

    greedy = Greedy(LanguageModel(decoder, head, words, config), image_token=32000)
    rows = greedy.answers(ids, inputs, Stop(frozenset({2}), limit=64))

- The common beginning of all questions before the image (the system prompt) goes through the model once, and the last
  layer and the head run at the last position only (`eval.models.question_prefill`).
- Decoding appends to one buffer of keys. On a CPU a row that has ended is removed from the batch at once.
- On a GPU a step is launched before the tokens of the one before it are read, so the GPU does not wait for the check
  which rows have ended; they are removed once they are half of the batch, so that few shapes occur, each recorded as a
  CUDA graph (`eval.models.cuda_graphs`; not run on a GPU yet).

Other decoders than those of Llama, Mistral and Qwen2, and answers that reach beyond a sliding window, go through
transformers' own forward and cache (`_by_transformers`), which leaves rows in the batch until half of them have ended.
Tensor shapes: `B` questions, `T` tokens of the longest, `H` hidden size, `V` vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from eval.models.cpu_matmul import fast_products
from eval.models.cuda_graphs import RecordedCalls
from eval.models.decoder_input import DecoderInput
from eval.models.llama_decoder import KeyValueCache, LlamaSteps, seen_keys
from eval.models.question_prefill import QuestionPrefill
from train.models.layer_parts import LayerParts

LOST = -1  # in place of a token id where the logits are not finite
BLOCK = (
    64  # on a GPU a step attends to whole blocks of keys, so that the shapes of successive steps are mostly the same
)


@dataclass(frozen=True)
class LanguageModel:
    """A decoder without its head, the head, the word embeddings, the language model's config, and layers' kernels."""

    decoder: nn.Module
    head: nn.Module
    words: nn.Module
    config: Any
    parts: LayerParts = field(default_factory=LayerParts)


@dataclass(frozen=True)
class Stop:
    """When an answer ends: with one of the `ends`, which is its last token, or after `limit` tokens."""

    ends: frozenset[int]
    limit: int


class Greedy:
    """Greedy decoding with one language model.

    `row_steps` counts rows over all decoding steps so far. `ahead`: whether a step is launched before the last one's
    tokens are read, the default on a GPU.
    """

    def __init__(self, model: LanguageModel, image_token: int, *, ahead: bool | None = None):
        """`image_token` is the image placeholder's id; only ids before it are shared."""
        device = next(model.head.parameters()).device.type
        self.model = model
        self.ahead = device == "cuda" if ahead is None else ahead
        fits = LlamaSteps.fits(model.decoder, longest=0)
        self.steps = LlamaSteps(model.decoder, model.parts) if fits else None
        self.row_steps = 0
        self._prefill = QuestionPrefill(self.steps, image_token) if self.steps else None
        self._calls = RecordedCalls(device)
        self._recorded_keys: KeyValueCache | None = None

    @torch.inference_mode()
    def answers(self, ids: Sequence[Sequence[int]], inputs: DecoderInput, stop: Stop) -> list[list[int] | None]:
        """New tokens of every question, the end token included; None where the head's output was not finite.

        `ids` are the questions' own, `inputs` what the decoder takes for them.
        """
        longest = max(map(len, ids)) + stop.limit
        with fast_products(inputs.states):
            if self._prefill is None or not LlamaSteps.fits(self.model.decoder, longest):
                return self._by_transformers(inputs, stop)
            keys, states = self._prefill(ids, inputs.states, stop.limit)
            return self._by_steps(keys, _best(self.model.head(states)), stop)

    def _by_steps(self, keys: KeyValueCache, tokens: torch.Tensor, stop: Stop) -> list[list[int] | None]:
        """Decode from the first `tokens` (B,) on."""
        if keys is not self._recorded_keys:
            self._calls.clear()
            self._recorded_keys = keys
        rows = _Rows(len(tokens), stop, patient=self.ahead)
        ends = torch.tensor(keys.lengths, device=tokens.device)  # where each row's next token is written
        for made in range(1, stop.limit + 1):
            read = _reader(tokens)
            following = self._step(keys, tokens, ends) if self.ahead and made < stop.limit else None
            dropped = rows.take(read())
            if not rows.waiting:
                break
            if following is None:
                for row in dropped:
                    keys.drop(row)
                    tokens[row], ends[row] = tokens[len(keys.lengths)], ends[len(keys.lengths)]
                active = len(keys.lengths)
                following = self._step(keys, tokens[:active], ends[:active])
            tokens, ends = following
            if (kept := rows.keep()) is not None:
                chosen = torch.tensor(kept, device=tokens.device)
                keys.keep(chosen)
                tokens, ends = tokens[chosen], ends[chosen]
        return rows.answers

    def _step(self, keys: KeyValueCache, tokens: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens (B,) that follow `tokens`, and the positions (B,) behind theirs."""
        assert self.steps is not None
        steps, longest = self.steps, max(keys.lengths) + 1
        room = keys.buffers[0][0].shape[2]
        count = min(-(-longest // BLOCK) * BLOCK, room) if self.ahead else longest
        buffers, whole = keys.view(count), not self.ahead and min(keys.lengths) + 1 == count

        def step(tokens: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
            mask = None if whole else seen_keys(ends, count)
            words = self.model.words(tokens[:, None].clamp(min=0))
            return _best(self.model.head(steps.step(words, ends, buffers, mask))), ends + 1

        self.row_steps += len(tokens)
        following, after = self._calls((len(tokens), count, whole), step, tokens, ends)
        keys.lengths = [length + 1 for length in keys.lengths]
        return following, after

    def _by_transformers(self, inputs: DecoderInput, stop: Stop) -> list[list[int] | None]:
        """The same with transformers' cache: rows that have ended are removed once they are half of the batch."""
        mask, positions, arguments = inputs.mask, inputs.next_positions, inputs.arguments  # positions: (B,)
        cache, rows = DynamicCache(config=self.model.config), _Rows(len(mask), stop, patient=True)
        while True:
            states = self.model.decoder(
                past_key_values=cache, use_cache=True, **arguments
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
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            words = self.model.words(tokens[:, None].clamp(min=0))  # (B, 1, H)
            arguments = {"inputs_embeds": words, "attention_mask": mask, "position_ids": positions[:, None]}
            positions = positions + 1


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


def _reader(tokens: torch.Tensor) -> Callable[[], list[int]]:
    """Starts the transfer of `tokens` (B,) to the host; the result waits for it, not for what was launched since."""
    if tokens.device.type != "cuda":
        return tokens.tolist
    held = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
    held.copy_(tokens, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def read() -> list[int]:
        arrived.synchronize()
        return [int(token) for token in held.tolist()]

    return read
