"""Byte-level BPE with merges learned from a few texts."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_level_bpe(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of the kind of Qwen2's and SmolLM2's: no start token, padding is the end token.

    It has at most `size` tokens, with merges learned from `texts`; any other text is spelled in bytes.
    """
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    learn_merges(backend, texts, size, SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )  # fmt: skip


def learn_merges(backend: Tokenizer, texts: Sequence[str], size: int, special: Sequence[str] = ()) -> None:
    """Give `backend` at most `size` tokens: `special`, every byte, and merges learned from `texts`."""
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)


def pairs(words: Sequence[str]) -> list[str]:
    """Every word before every word, so that those with a blank before them are learned, too."""
    return [f"{first} {second}" for first in words for second in words]
