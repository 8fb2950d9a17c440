"""Randomly initialised models of known shapes, for tests and for benchmarks, as speed does not depend on weights.

folder = write_random_base(Path("/tmp/base"), "tiny")     # a folder that from_pretrained loads
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from configs.errors import ConfigError

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "<image>")

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "vision": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
                   "image_size": 32, "patch_size": 8, "projection_dim": 32},
        "text": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "num_key_value_heads": 4, "vocab_size": 256, "max_position_embeddings": 512},
    },
    "small": {
        "vision": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4,
                   "image_size": 224, "patch_size": 14, "projection_dim": 256},
        "text": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12, "num_attention_heads": 8,
                 "num_key_value_heads": 8, "vocab_size": 32064, "max_position_embeddings": 2048},
    },
    "7b-proportions": {  # 16 narrow layers; head, vision tower and prompt have the shares that they have at 7B
        "vision": {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 24, "num_attention_heads": 3,
                   "image_size": 336, "patch_size": 14, "projection_dim": 96},
        "text": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 16, "num_attention_heads": 8,
                 "num_key_value_heads": 8, "vocab_size": 2048, "max_position_embeddings": 2048},
    },
    "llava-1.5-7b": {
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                   "image_size": 336, "patch_size": 14, "projection_dim": 768},
        "text": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096},
    },
}  # fmt: skip


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
    size = model.config.vision_config.image_size
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    ).save_pretrained(folder)
    return folder
