"""A randomly initialised tiny LLaVA-OneVision, with Qwen's byte-level BPE and the published model's chat template.

    model, processor = llava_onevision(WORDS)

Images of four tiles have more patches than it keeps, and are scaled down after the projector.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from train.toy.model_files import write_image_processor
from train.toy.tiny_qwen import TEXT, qwen_tokenizer

SIDE, PATCH = 32, 8  # pixels
GRID = [[32, 32], [32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]  # (height, width)
MOST = "anyres_max_2"
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
         "image_size": SIDE, "patch_size": PATCH, "vision_use_head": False}  # fmt: skip
TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + ' ' }}"
    "{% for part in message.content if part.type == 'image' %}<image>{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{% if message.role == 'assistant' %}"
    "{% generation %}{{ '\n' + part.text }}{% endgeneration %}{% else %}{{ '\n' + part.text }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As published, a blank behind `assistant` included, which the prompt of an answer does not have."""


@dataclass(frozen=True)
class ProcessorFiles:
    """Image processor and tokenizer. (transformers' whole processor has one of videos too, which needs torchvision.)"""

    tokenizer: Qwen2Tokenizer

    def save_pretrained(self, folder: Path) -> None:
        """Write both, and the settings of the whole processor."""
        half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        images = LlavaOnevisionImageProcessorPil(
            size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=GRID, **half
        )
        write_image_processor(images, folder, "LlavaOnevisionImageProcessor")
        self.tokenizer.save_pretrained(folder)
        whole = {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": (SIDE // PATCH) ** 2,
                 "vision_feature_select_strategy": "full", "vision_aspect_ratio": MOST}  # fmt: skip
        (folder / "processor_config.json").write_text(json.dumps(whole), encoding="utf-8")


def llava_onevision(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    """A random LLaVA-OneVision and its processor, whose tokenizer knows `words`."""
    tokenizer = qwen_tokenizer(words, TURNS)
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER),
        text_config=Qwen2Config(**TEXT, **ends),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRID,
        vision_aspect_ratio=MOST,
    )
    return LlavaOnevisionForConditionalGeneration(config), ProcessorFiles(tokenizer)
