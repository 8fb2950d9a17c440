"""Greedy answers of a batch padded on the right, by transformers' own `generate`.

A processor that pads on the right (BLIP-2's, by default) makes `generate` continue from the padding: the first token of
every question except the longest is chosen at the position of a padding token. The authors run closed-world questions
in such batches of 8, and this measures how much of a number that explains (protocol.padding_side). An answer then
depends on the other questions of its batch, so batches are fixed (`eval.runner.batching`), and batch_size and limit are
part of the evaluation's identity. (The authors' batches follow a shuffled data set, ours its order.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from configs.errors import ConfigError
from train.models.types import Family


def padding_of(choice: str, tokenizer: PreTrainedTokenizerBase, family: Family) -> int | None:
    """The id to pad with on the right where `choice` (protocol.padding_side) means that, None for the left.

    Raises `ConfigError` if the tokenizer has no padding token, whose embedding decides what is answered, and for
    `right` with a family that is padded on the left alone.
    """
    if family.several_positions and choice == "right":
        raise ConfigError(f"protocol.padding_side is right, which {family.name} does not have; set it to left")
    if choice == "left" or (choice == "processor" and not pads_right(tokenizer, family)):
        return None
    if tokenizer.pad_token_id is None:
        raise ConfigError("protocol.padding_side is right and the tokenizer has no padding token; set it to left")
    return int(tokenizer.pad_token_id)


def pads_right(tokenizer: PreTrainedTokenizerBase, family: Family) -> bool:
    """Whether the processor pads on the right; where a token has several positions (Qwen-VL) it counts as left.

    `generate` computes such positions from ids, which are not there: embeddings are passed to it.
    """
    return bool(tokenizer.padding_side == "right") and not family.several_positions


def padded_right(rows: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (B, T), the shorter rows filled up with `padding`, which the mask hides.

    >>> padded_right([[5, 6], [7]], 1)[0].tolist()
    [[5, 6], [7, 1]]
    """
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


class NonFiniteRowDetector(LogitsProcessor):  # type: ignore[misc]  # transformers' base is untyped
    """Records in `lost` (B,) the rows whose largest logit is not finite before their answer has ended."""

    def __init__(self, ends: Sequence[int]):
        """`ends` are the tokens that end an answer."""
        self.ends = torch.tensor(ends)
        self.lost = torch.tensor(False)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Look at the logits (B, V) that follow the tokens (B, T) generated so far."""
        ended = torch.isin(input_ids, self.ends.to(input_ids.device)).any(-1)
        self.lost = self.lost | (~scores.amax(-1).isfinite() & ~ended)
        return scores


def generate(
    model: Any, embeddings: torch.Tensor, mask: torch.Tensor, limits: dict[str, Any]
) -> list[list[int] | None]:
    """New tokens of every row, by the `generate` of `model` (`Family.generator`); None for lost rows.

    `embeddings` (B, T, H) with `mask` (B, T); `limits` are generate's max_new_tokens, eos_token_id (a
    list) and pad_token_id.
    """
    watched = NonFiniteRowDetector(limits["eos_token_id"])
    greedy = {"do_sample": False, "num_beams": 1, "logits_processor": [watched]}
    tokens = model.generate(inputs_embeds=embeddings, attention_mask=mask, **greedy, **limits)
    return [None if lost else row for row, lost in zip(tokens.tolist(), watched.lost.tolist(), strict=True)]
