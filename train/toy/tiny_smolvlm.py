"""Randomly initialised tiny SmolVLM2 and Idefics3 models, with a byte-level BPE tokenizer and a chat template.

    model, processor = smolvlm(WORDS)

An image becomes up to 3 x 3 tiles and the whole, each of 4 tokens.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from train.toy.byte_level import byte_level_bpe
from train.toy.model_files import write_image_processor

AROUND, GLOBAL, END = "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
GRID = 3  # most tiles a side
SPECIAL = (AROUND, "<image>", END, GLOBAL, *(f"<row_{n // GRID + 1}_col_{n % GRID + 1}>" for n in range(GRID * GRID)))
SIDE, TILE_TOKENS = 32, 4
ROWS = 400  # of the embedding: more than the tokenizer has tokens
TEXT = {"vocab_size": ROWS, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": SIDE, "patch_size": 8}  # fmt: skip
TURNS = (
    "<|im_start|>{% for message in messages %}{{ message.role | capitalize }}"
    "{{ ':' if message.content[0].type == 'image' else ': ' }}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


@dataclass(frozen=True)
class ProcessorFiles:
    """Image processor and tokenizer. (SmolVLM2's whole processor has one of videos, which needs torchvision.)"""

    kind: str
    tokenizer: PreTrainedTokenizerFast

    def save_pretrained(self, folder: Path) -> None:
        """Write both, and the tokens of a tile."""
        edges = {"size": {"longest_edge": GRID * SIDE}, "max_image_size": {"longest_edge": SIDE}}
        write_image_processor(SmolVLMImageProcessorPil(**edges), folder, f"{self.kind}ImageProcessor")
        self.tokenizer.save_pretrained(folder)
        whole = {"processor_class": f"{self.kind}Processor", "image_seq_len": TILE_TOKENS}
        (folder / "processor_config.json").write_text(json.dumps(whole), encoding="utf-8")


def smolvlm(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    """A random SmolVLM2 and its processor, whose tokenizer knows `words`."""
    return _made(words, "SmolVLM", SmolVLMConfig, SmolVLMForConditionalGeneration)


def idefics3(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    """A random Idefics3 with its head tied to the embedding, and its processor."""
    return _made(words, "Idefics3", Idefics3Config, Idefics3ForConditionalGeneration, tie_word_embeddings=True)


def _made(
    words: Sequence[str], kind: str, config: Callable[..., Any], model: Callable[[Any], PreTrainedModel], **more: Any
) -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level_bpe([" ".join(words), "User: Assistant:\n\n\n\n"], ROWS - 40)
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    tokenizer.eos_token, tokenizer.chat_template = END, TURNS
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    ids |= {"bos_token_id": tokenizer.bos_token_id}
    settings = config(
        text_config=LlamaConfig(**TEXT, **ids, **more),
        vision_config=dict(TOWER),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )
    return model(settings), ProcessorFiles(kind, tokenizer)
