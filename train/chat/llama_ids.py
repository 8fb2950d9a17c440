"""Token ids as in LLaVA's training environment: those of the slow `LlamaTokenizer` of transformers 4.37.

LLaVA trains with `use_fast=False`. That tokenizer splits a text at special tokens and encodes each piece with
SentencePiece. Its flag `legacy` decides how a piece after a special token is encoded:

    legacy true     a space is added before every piece        "</s>USER"  ->  </s> ▁US ER
    legacy false    a space is added before the text only      "</s>USER"  ->  </s> USER

The released Vicuna and LLaVA tokenizers have `"legacy": false`; a folder without the flag means `legacy` true.
Source: `tokenization_llama.py` of transformers 4.37.2; tests compare with ids that it computed.
"""

import re
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

MARK = "▁"  # SentencePiece's character for a space
UNKNOWN = "<unk>"


class LlamaIds:
    """Text to token ids, without a leading `<s>`, for a SentencePiece BPE vocabulary with byte fallback.

    >>> LlamaIds.of(tokenizer).ids("</s>USER")      # a tokenizer with legacy false
    [2, 11889]
    """

    def __init__(self, bpe: Any, specials: dict[str, int], *, legacy: bool):
        """`bpe` is a `tokenizers.models.BPE`; `specials` maps `<s>`, `</s>` and `<unk>` to their ids."""
        self.legacy = legacy
        self._bpe, self._specials = bpe, specials
        self._split = re.compile("(" + "|".join(re.escape(token) for token in specials) + ")")
        self._unknown_length = len(self._pieces(UNKNOWN))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "LlamaIds | None":
        """For a tokenizer of `load_tokenizer`; None if `is_llama_kind` is False for it."""
        if not is_llama_kind(tokenizer):
            return None
        vocabulary = tokenizer.get_vocab()
        specials = {token: vocabulary[token] for token in ("<s>", "</s>", UNKNOWN)}
        legacy = getattr(tokenizer, "legacy", None)
        return cls(tokenizer.backend_tokenizer.model, specials, legacy=legacy is not False)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, including special tokens in it."""
        if not text:
            return []
        if not self.legacy:
            text = MARK + text.replace(MARK, " ")
        found: list[int] = []
        for piece in self._split.split(text):
            if piece in self._specials:
                found.append(self._specials[piece])
            elif piece:
                found += self._piece_ids(piece)
        mark_alone = len(found) > 1 and found[0] == self._pieces(MARK)[0] and found[1] in self._specials.values()
        return found[1:] if mark_alone and not self.legacy else found

    def _piece_ids(self, piece: str) -> list[int]:
        if self.legacy:
            return self._pieces(MARK + piece)
        if piece.startswith((MARK, " ")):
            return self._pieces(UNKNOWN + piece)[self._unknown_length :]
        return self._pieces(piece)

    def _pieces(self, text: str) -> list[int]:
        return [token.id for token in self._bpe.tokenize(text.replace(" ", MARK))]


def is_llama_kind(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the vocabulary is SentencePiece's BPE with byte fallback, with LLaMA's three special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not getattr(getattr(backend, "model", None), "byte_fallback", False):
        return False
    vocabulary = tokenizer.get_vocab()
    return all(token in vocabulary for token in ("<s>", "</s>", UNKNOWN, MARK))


def llava_targets(
    ids: Sequence[int],
    lengths: Sequence[tuple[int, int] | None],
    *,
    legacy: bool,
    max_length: int,
    unknown: int,
) -> list[bool]:
    """Which tokens LLaVA's `preprocess_v1` supervises, including its counting errors.

    `lengths` has two token counts for each round between `</s>`: of the round, and of its instruction (up to and
    including "ASSISTANT: "), each tokenized alone with `<s>`; None for a round with no or several instructions. LLaVA
    adds up the counts from the first round on. Not supervised are the instruction, less its last 2 tokens, and all
    tokens after the last round. If the sum does not end at the last token, the whole conversation is not supervised,
    unless it was cut to `max_length`. Without `legacy`, LLaVA subtracts 1 from both counts of every round but the first
    (source: LLaVA's `llava/train/train.py`).
    """
    supervised = [True] * len(ids)
    counted = 1
    _clear(supervised, 0, 1)
    for number, round_lengths in enumerate(lengths):
        if round_lengths is None:
            break
        shift = 1 if number and not legacy else 0
        length, instruction = round_lengths[0] - shift, round_lengths[1] - 2 - shift
        _clear(supervised, counted, counted + instruction)
        counted += length
    _clear(supervised, counted, len(ids))
    real = sum(token != unknown for token in ids)  # LLaVA pads with <unk>
    if counted < max_length and counted != real:
        return [False] * len(ids)
    return supervised


def _clear(supervised: list[bool], start: int, stop: int) -> None:
    stop = min(stop, len(supervised))
    supervised[start:stop] = [False] * max(0, stop - start)
