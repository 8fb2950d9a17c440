"""Randomly initialised tiny Qwen2.5-VL and Qwen3-VL models, with a byte-level BPE tokenizer and their chat templates.

    model, processor = qwen2_5_vl(WORDS)

Sizes are far below the published ones, and every kind of layer is there: in Qwen2.5-VL's tower windows and full
attention, in Qwen3-VL's two layers whose features are added to the decoder's first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from train.toy.byte_level import learn_merges, pairs
from train.toy.model_files import write_image_processor

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
VOCABULARY = 400  # rows of the embedding: more than the tokenizer has tokens, as in the published models
TEXT = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip
TOWER = {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 48,
         "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip
LIMITS = {"shortest_edge": 16 * 16, "longest_edge": 40 * 40}  # pixels of an image

SYSTEM = (
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
)
TURNS = (
    "{% for message in messages %}<<SYSTEM>><|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, with image markers."""


@dataclass(frozen=True)
class ProcessorFiles:
    """Image processor and tokenizer. (transformers' whole processor has one of videos too, which needs torchvision.)"""

    images: Qwen2VLImageProcessorPil
    tokenizer: Qwen2Tokenizer

    def save_pretrained(self, folder: Path) -> None:
        """Write both, and the settings of the processor of videos."""
        write_image_processor(self.images, folder, "Qwen2VLImageProcessor")
        self.tokenizer.save_pretrained(folder)
        videos = {"video_processor_type": "Qwen2VLVideoProcessor", "patch_size": TOWER["patch_size"]}
        (folder / "video_preprocessor_config.json").write_text(json.dumps(videos), encoding="utf-8")


def qwen2_5_vl(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    """A random Qwen2.5-VL and its processor, whose tokenizer knows `words`; its template writes a system prompt."""
    tokenizer = qwen_tokenizer(words, TURNS.replace("<<SYSTEM>>", SYSTEM))
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    vision = {**TOWER, "window_size": 16, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": rope, **_ends(tokenizer)},
        vision_config=vision,
        **_image_tokens(tokenizer),
    )
    files = ProcessorFiles(_images([0.48, 0.46, 0.41], [0.27, 0.26, 0.28]), tokenizer)
    return Qwen2_5_VLForConditionalGeneration(config), files


def qwen3_vl(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    """A random Qwen3-VL and its processor, whose tokenizer knows `words`; the head is tied to the embedding."""
    tokenizer = qwen_tokenizer(words, TURNS.replace("<<SYSTEM>>", ""))
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "mrope_interleaved": True, "rope_theta": 10000.0}
    vision = {**TOWER, "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 1]}
    config = Qwen3VLConfig(
        text_config={**TEXT, "head_dim": 12, "rope_parameters": rope, **_ends(tokenizer)},
        vision_config=vision,
        tie_word_embeddings=True,
        **_image_tokens(tokenizer),
    )
    files = ProcessorFiles(_images([0.5] * 3, [0.5] * 3), tokenizer)
    return Qwen3VLForConditionalGeneration(config), files


def qwen_tokenizer(words: Sequence[str], template: str) -> Qwen2Tokenizer:
    """A byte-level BPE with merges learned from `words`, and Qwen's special tokens; no start token."""
    backend = Tokenizer(BPE())
    backend.normalizer = NFC()
    split = Split(Regex(PRETOKENIZE_REGEX), "isolated")
    backend.pre_tokenizer = Steps([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    learn_merges(backend, pairs(words), VOCABULARY - 20 - len(SPECIAL))
    learned = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        eos_token="<|im_end|>",
        extra_special_tokens=list(SPECIAL),
    )
    tokenizer.chat_template = template
    return tokenizer


def _images(mean: list[float], deviation: list[float]) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        size=dict(LIMITS), patch_size=TOWER["patch_size"], image_mean=mean, image_std=deviation
    )


def _ends(tokenizer: Any) -> dict[str, int]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}


def _image_tokens(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}
