"""The model families that train: a tiny random model of each, and how transformers makes its inputs.

A new family is one `FamilyCase` in `CASES`; every check in this folder then runs for it:

| file | checks |
| --- | --- |
| `test_inputs.py` | token ids, images and targets equal those of transformers' processor |
| `test_gradients.py` | loss and gradients equal those of transformers with `labels`, padded and packed |
| `test_zero.py` | two ranks, ZeRO 0 to 3, fp32 and bf16 (`ranks.py` runs all families in one pair of processes) |
| `test_modes.py` | what each mode trains, and what the dry run says of it |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from train.chat.tokenizer import load_tokenizer
from train.toy.random_models import write_random_base

Exchanges = Sequence[tuple[str, str | None]]
"""Questions and answers; the last answer may be None: the text then ends where the model is to answer."""


def plain_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> dict[str, torch.Tensor]:
    """What most processors make of a conversation and its image."""
    return dict(processor(text=text, images=image, return_tensors="pt"))


@dataclass(frozen=True)
class FamilyCase:
    """A family as the checks need it."""

    name: str
    write: Callable[[Path, Sequence[str]], object]
    """Writes the tiny model, its tokenizer and processor into a folder; the tokenizer knows the words."""
    settings: tuple[str, ...]
    """Settings of a run (`key=value`), such as its chat template."""
    processor: Callable[[Path], Any]
    """transformers' processor of the folder."""
    text: Callable[[Any, Exchanges, bool], str]
    """(processor, exchanges, has an image): the conversation as the text that the processor takes."""
    inputs: Callable[[Any, str, Image.Image | None, str], dict[str, torch.Tensor]] = plain_inputs
    """(processor, text, image, text of the open question): the model's inputs, `input_ids` of shape (1, T) included."""
    pixels: str | None = "pixel_values"
    """Name of the processor's pixels that `Family.normalized` of our `pixels` must equal; None: see the features."""
    multi_turn: bool = True
    """Whether a conversation may have several questions."""
    packed_refused: str | None = None
    """What the error says where packed batches are refused."""
    dropout: tuple[str, ...] = ()
    """Numbers of config.json (`section.name`) that a run with dropout sets above 0."""


def _llava_processor(folder: Path) -> Any:
    images = LlavaImageProcessorPil.from_pretrained(folder)
    return LlavaProcessor(images, load_tokenizer(folder), 8, "default", num_additional_image_tokens=1)


def _llava_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>\n" if has_image and not number else ""
        text += f"USER: {shown}{question} ASSISTANT:" + ("" if answer is None else f" {answer}</s>")
    return f"<s>{text}"


CASES = {
    case.name: case
    for case in (
        FamilyCase(
            "llava",
            lambda folder, words: write_random_base(folder, "tiny", words),
            ("chat.template=hf", "chat.system_prompt=none"),
            _llava_processor,
            _llava_text,
        ),
    )
}
