"""Greedy answers of a batch padded on the right: transformers' own, with what that does to the shorter questions.

A processor that pads on the right (BLIP-2's, unless told otherwise) makes `generate` go on from the padding: the first
word of every question but the longest is chosen where a padding token stands. The authors ask closed-world questions
in such batches of 8. How much of a number that explains can be measured here (protocol.padding_side); an answer then
depends on what is asked beside it, so a batch is the same whoever asks it (`eval.items`), and batch_size and limit are
part of what is asked. (Their batches follow a shuffled data set, ours its order.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationMixin, PreTrainedTokenizerBase

from configs.errors import ConfigError


def padding_of(choice: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id to pad with on the right where `choice` (protocol.padding_side) means that, None for the left.

    Raises `ConfigError` if the tokenizer has no padding token, whose embedding decides what is answered.
    """
    side = tokenizer.padding_side if choice == "processor" else choice
    if side == "left":
        return None
    if tokenizer.pad_token_id is None:
        raise ConfigError("protocol.padding_side is right and the tokenizer has no padding token; set it to left")
    return int(tokenizer.pad_token_id)


def padded_right(rows: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (B, T), the shorter rows filled up with `padding`, which the mask hides.

    >>> padded_right([[5, 6], [7]], 1)[0].tolist()
    [[5, 6], [7, 1]]
    """
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def generate(model: Any, embeddings: torch.Tensor, mask: torch.Tensor, limits: dict[str, int]) -> list[list[int]]:
    """New tokens of every row, by the `generate` of `model` or of the language model in a BLIP.

    `embeddings` (B, T, H) with `mask` (B, T); `limits` are generate's max_new_tokens, eos_token_id, pad_token_id.
    """
    inner = getattr(model, "language_model", None)
    writer = inner if isinstance(inner, GenerationMixin) else model
    tokens = writer.generate(inputs_embeds=embeddings, attention_mask=mask, do_sample=False, num_beams=1, **limits)
    rows: list[list[int]] = tokens.tolist()
    return rows
