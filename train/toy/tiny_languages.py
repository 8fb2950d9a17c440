"""Randomly initialised tiny LLaVAs whose language model, tokenizer or tower is not Vicuna's and CLIP's, for tests.

    folder = write_tiny_llava(Path("/tmp/tied"), "llava_tied", WORDS)

`llava_siglip_qwen2`: SigLIP's tower, Qwen2's decoder, byte-level BPE without a start token. `llava_mistral`: a sliding
window, a template that writes the start token. `llava_tied`: SmolLM2's shape, a Llama with grouped queries, its head
tied to embeddings of more rows than tokens, padding with the end token. Each has its own chat template.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from configs.errors import ConfigError
from data_prep.sample import IMAGE_PLACEHOLDER
from train.toy.byte_level import byte_level_bpe
from train.toy.language_model import FLATTENED
from train.toy.model_files import draw_large_weights, padding_processor
from train.toy.random_models import word_tokenizer
from train.toy.shapes import SHAPES

CHATML = FLATTENED + (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nBe brief."
    "<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = FLATTENED + (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} "
    "[/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
KINDS = ("llava_siglip_qwen2", "llava_mistral", "llava_tied")
WINDOW = 300  # of `llava_mistral`, in tokens
ROWS = 640  # of the embeddings


def write_tiny_llava(folder: Path, words: Sequence[str], name: str, *, seed: int = 0) -> Path:
    """Write model, tokenizer and processor called `name` into `folder`; its tokenizer knows `words`.

    Raises `ConfigError` for an unknown name.
    """
    if name not in KINDS:
        raise ConfigError(f"unknown model {name!r}; known: {', '.join(KINDS)}")
    tokenizer, siglip = _tokenizer(name, words), "siglip" in name
    vision = {key: value for key, value in SHAPES["tiny"]["vision"].items() if not siglip or key != "projection_dim"}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**vision) if siglip else CLIPVisionConfig(**vision),
        text_config=_language(name),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER),
        vision_feature_layer=-1 if siglip else -2,
        vision_feature_select_strategy="full" if siglip else "default",
        tie_word_embeddings=name == "llava_tied",
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    draw_large_weights(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = vision["image_size"]
    square = SiglipImageProcessorPil(size={"height": side, "width": side})
    (square if siglip else padding_processor(side)).save_pretrained(folder)
    return folder


def _language(name: str) -> Any:
    sizes = {**SHAPES["tiny"]["text"], "num_key_value_heads": 2, "vocab_size": ROWS}
    if name == "llava_mistral":
        return MistralConfig(**sizes, sliding_window=WINDOW)
    if name == "llava_tied":
        return LlamaConfig(**sizes, tie_word_embeddings=True)
    return Qwen2Config(**sizes)


def _tokenizer(name: str, words: Sequence[str]) -> PreTrainedTokenizerFast:
    if name == "llava_mistral":
        tokenizer = word_tokenizer(("[", "]", "INST", "/", "\n", "?", ".", *words))
        tokenizer.chat_template = INST
        return tokenizer
    tokenizer = byte_level_bpe([" ".join(words), "user assistant system Be brief."], 400)
    tokenizer.add_tokens([IMAGE_PLACEHOLDER], special_tokens=True)
    tokenizer.chat_template = CHATML
    return tokenizer
