"""Randomly initialised models of known shapes, for tests and for benchmarks, as speed does not depend on weights.

folder = write_random_base(Path("/tmp/base"), "tiny")     # a folder that from_pretrained loads
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from configs.errors import ConfigError
from train.models.checked_loading import quiet_transformers
from train.toy.model_files import padding_processor
from train.toy.shapes import SHAPES

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "<image>")


def random_config(shape: str) -> LlavaConfig:
    """The transformers config of a shape. Raises `ConfigError` for an unknown one."""
    if shape not in SHAPES:
        raise ConfigError(f"unknown shape {shape!r}; known shapes: {', '.join(SHAPES)}")
    sizes = SHAPES[shape]
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes["vision"]),
        text_config=LlamaConfig(**sizes["text"], bos_token_id=1, eos_token_id=2, pad_token_id=3),
        image_token_id=SPECIAL_TOKENS.index("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        pad_token_id=3,
    )


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A real fast tokenizer with one token a word; punctuation and line ends are words too."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys((*SPECIAL_TOKENS, *words)))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Split(Regex(r"\n|[^\w\s]|\w+"), behavior="removed", invert=True)
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", **tokens)  # as in llava-hf's folders


def random_model(
    shape: str, dtype: torch.dtype = torch.float32, seed: int = 0, device: str = "cpu"
) -> LlavaForConditionalGeneration:
    """A model of `shape` with seeded random weights, made on `device` (7B takes minutes on a CPU, seconds on a GPU)."""
    torch.manual_seed(seed)
    with torch.device(device):
        return LlavaForConditionalGeneration._from_config(random_config(shape), dtype=dtype)


def write_random_base(
    folder: Path,
    shape: str = "tiny",
    words: Sequence[str] = (),
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Path:
    """Write a loadable folder with a random model of `shape` and a word tokenizer that knows `words`.

    Raises `ConfigError` if the shape's vocabulary is too small for the words.
    """
    model = random_model(shape, dtype, seed, device)
    tokenizer = word_tokenizer(("USER", ":", "ASSISTANT", "\n", "?", ".", *words))
    vocabulary = model.config.text_config.vocab_size
    if len(tokenizer) > vocabulary:
        raise ConfigError(f"{len(tokenizer)} tokens do not fit into shape {shape}'s vocabulary of {vocabulary}")
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    padding_processor(model.config.vision_config.image_size).save_pretrained(folder)
    return folder
