"""The model families that train: a tiny random model of each, and how transformers makes its inputs.

A new family is one `FamilyCase` in `CASES`; every check in this folder then runs for it:

| file | checks |
| --- | --- |
| `test_inputs.py` | token ids, images and targets equal those of transformers' processor |
| `test_gradients.py` | loss and gradients equal those of transformers with `labels`, padded and packed |
| `test_zero.py` | two ranks, ZeRO 0 to 3, fp32 and bf16 (`ranks.py` runs all families in one pair of processes) |
| `test_modes.py` | what each mode trains, and what the dry run says of it |
| `test_evaluation.py` | greedy batches, class scores by the tree and probed states equal transformers' own |
| `test_runs.py` | kill -9 and resume, the export in plain transformers, adapters merged and apart |
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from tests.train.families.processors import (
    Exchanges,
    Inputs,
    Qwen3Processor,
    Qwen25Processor,
    blip_processor,
    blip_text,
    chat_text,
    folder_inputs,
    folder_processor,
    idefics3_processor,
    instructblip_inputs,
    instructblip_processor,
    instructblip_text,
    llava_next_processor,
    llava_next_text,
    llava_processor,
    llava_text,
    mistral_text,
    onevision_processor,
    onevision_text,
    plain_inputs,
    qwen_processor,
    smolvlm_processor,
)
from train.toy.random_models import write_random_base
from train.toy.tiny_families import write_tiny_family
from train.toy.tiny_languages import write_tiny_llava


@dataclass(frozen=True)
class FamilyCase:
    """A family as the checks need it."""

    name: str
    write: Callable[..., object]
    """Writes the tiny model, its tokenizer and processor into a folder; the tokenizer knows its `words`."""
    settings: tuple[str, ...]
    """Settings of a run (`key=value`), such as its chat template."""
    processor: Callable[[Path], Any]
    """transformers' processor of the folder."""
    text: Callable[[Any, Exchanges, bool], str]
    """(processor, exchanges, has an image): the conversation as the text that the processor takes."""
    inputs: Callable[[Any, str, Image.Image | None, str], Inputs] = plain_inputs
    """(processor, text, image, text of the open question): the model's inputs, `input_ids` of shape (1, T) included."""
    pixels: str | None = "pixel_values"
    """Name of the processor's pixels that `Family.normalized` of our `pixels` must equal; None: see the features."""
    behind_end: int = 0
    """Tokens that the chat template writes behind the end token of an answer, which are no targets."""
    multi_turn: bool = True
    """Whether a conversation may have several questions."""
    packed_refused: str | None = None
    """What the error says where packed batches are refused."""
    variant: bool = False
    """Whether a case before it has the same family class: ranks and whole runs then check only what may differ."""
    dropout: tuple[str, ...] = ()
    """Numbers of config.json (`section.name`) that a run with dropout sets above 0."""


BLIP_DROPOUT = ("qformer_config.hidden_dropout_prob", "qformer_config.attention_probs_dropout_prob")
FOLDER_CHAT = ("chat.template=folder", "chat.system_prompt=none", "chat.image_mode=export")
CASES = {
    case.name: case
    for case in (
        FamilyCase(
            "llava",
            lambda folder, words: write_random_base(folder, words=words),
            ("chat.template=hf", "chat.system_prompt=none"),
            llava_processor,
            llava_text,
        ),
        FamilyCase(
            "llava_siglip_qwen2",
            partial(write_tiny_llava, name="llava_siglip_qwen2"),
            ("chat.template=folder", "chat.image_mode=export"),
            folder_processor,
            chat_text,
            folder_inputs,
            behind_end=1,
            variant=True,
        ),
        FamilyCase(
            "llava_mistral",
            partial(write_tiny_llava, name="llava_mistral"),
            ("chat.template=folder",),
            folder_processor,
            chat_text,
            folder_inputs,
            variant=True,
        ),
        FamilyCase(
            "llava_tied",
            partial(write_tiny_llava, name="llava_tied"),
            ("chat.template=folder",),
            folder_processor,
            chat_text,
            folder_inputs,
            behind_end=1,
            variant=True,
        ),
        FamilyCase(
            "llava_next",
            partial(write_tiny_family, name="llava_next"),
            ("chat.template=hf", "chat.system_prompt=none", "chat.image_mode=export"),
            llava_next_processor,
            llava_next_text,
        ),
        FamilyCase(
            "llava_next_mistral",
            partial(write_tiny_family, name="llava_next_mistral"),
            ("chat.template=mistral", "chat.system_prompt=none", "chat.image_mode=export"),
            llava_next_processor,
            mistral_text,
            packed_refused="the language model sees 96 tokens back",
            variant=True,
        ),
        FamilyCase(
            "llava_onevision",
            partial(write_tiny_family, name="llava_onevision"),
            FOLDER_CHAT,
            onevision_processor,
            onevision_text,
        ),
        FamilyCase(
            "blip-2",
            partial(write_tiny_family, name="blip-2"),
            ("chat.template=question", "chat.system_prompt=none", "chat.image_mode=export"),
            blip_processor,
            blip_text,
            dropout=(*BLIP_DROPOUT, "text_config.dropout"),
        ),
        FamilyCase(
            "instructblip",
            partial(write_tiny_family, name="instructblip"),
            ("chat.template=plain", "chat.system_prompt=none", "chat.image_mode=export"),
            instructblip_processor,
            instructblip_text,
            instructblip_inputs,
            multi_turn=False,
            dropout=BLIP_DROPOUT,
        ),
        FamilyCase(
            "qwen2_5_vl",
            partial(write_tiny_family, name="qwen2_5_vl"),
            FOLDER_CHAT,
            partial(qwen_processor, Qwen25Processor),
            chat_text,
            behind_end=1,
        ),
        FamilyCase(
            "qwen3_vl",
            partial(write_tiny_family, name="qwen3_vl"),
            FOLDER_CHAT,
            partial(qwen_processor, Qwen3Processor),
            chat_text,
            behind_end=1,
        ),
        FamilyCase(
            "smolvlm",
            partial(write_tiny_family, name="smolvlm"),
            FOLDER_CHAT,
            smolvlm_processor,
            chat_text,
            behind_end=1,
        ),
    )
}
IDEFICS3 = FamilyCase(
    "idefics3",
    partial(write_tiny_family, name="idefics3"),
    FOLDER_CHAT,
    idefics3_processor,
    chat_text,
    behind_end=1,
    variant=True,
)
"""Has the class of SmolVLM2, so `test_smolvlm.py`, ranks and a whole run check it."""
ALL = {**CASES, IDEFICS3.name: IDEFICS3}
