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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Blip2Processor,
    Idefics3Processor,
    InstructBlipProcessor,
    LlavaNextProcessor,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    Qwen2_5_VLProcessor,
    Qwen3VLProcessor,
    SmolVLMProcessor,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from train.chat.tokenizer import load_tokenizer
from train.toy.random_models import write_random_base
from train.toy.tiny_families import QUERIES, write_tiny_family
from train.toy.tiny_languages import write_tiny_llava
from train.toy.tiny_onevision import MOST
from train.toy.tiny_smolvlm import TILE_TOKENS

Inputs = dict[str, torch.Tensor]
Exchanges = Sequence[tuple[str, str | None]]
"""Questions and answers; the last answer may be None: the text then ends where the model is to answer."""


def plain_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> Inputs:
    """What most processors make of a conversation and its image."""
    return dict(processor(text=text, images=image, return_tensors="pt"))


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
    dropout: tuple[str, ...] = ()
    """Numbers of config.json (`section.name`) that a run with dropout sets above 0."""


def _llava_processor(folder: Path) -> Any:
    images = LlavaImageProcessorPil.from_pretrained(folder)
    return LlavaProcessor(images, load_tokenizer(folder), 8, "default", num_additional_image_tokens=1)


def _folder_processor(folder: Path) -> Any:
    """With the folder's chat template; SigLIP's tower has no class token."""
    tokenizer = load_tokenizer(folder)
    siglip = AutoConfig.from_pretrained(folder).vision_config.model_type == "siglip_vision_model"
    images = (SiglipImageProcessorPil if siglip else LlavaImageProcessorPil).from_pretrained(folder)
    strategy, more = ("full", 0) if siglip else ("default", 1)
    return LlavaProcessor(
        images, tokenizer, 8, strategy, num_additional_image_tokens=more, chat_template=tokenizer.chat_template
    )


def _folder_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> Inputs:
    """No start token where the template writes it, as `apply_chat_template` tokenizes."""
    begins = text.startswith(str(processor.tokenizer.bos_token))
    return dict(processor(text=text, images=image, return_tensors="pt", add_special_tokens=not begins))


def _llava_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>\n" if has_image and not number else ""
        text += f"USER: {shown}{question} ASSISTANT:" + ("" if answer is None else f" {answer}</s>")
    return f"<s>{text}"


def _mistral_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>\n" if has_image and not number else ""
        text += f"[INST] {shown}{question} [/INST]" + ("" if answer is None else f" {answer}</s>")
    return text


def _llava_next_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    """The processor adds the start token."""
    return _llava_text(_, exchanges, has_image).removeprefix("<s>")


def _llava_next_processor(folder: Path) -> Any:
    images = LlavaNextImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return LlavaNextProcessor(images, tokenizer, 8, "default", num_additional_image_tokens=1)


def _blip_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    """With OPT's end of an answer, a line break."""
    return "".join(
        f"Question: {question} Answer:" + ("" if answer is None else f" {answer}\n") for question, answer in exchanges
    )


def _instructblip_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    ((question, answer),) = exchanges
    return question if answer is None else f"{question} {answer}</s>"


def _instructblip_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> Inputs:
    """The Q-Former reads the question alone, the language model question and answer."""
    made = processor(text=text, images=image, return_tensors="pt")
    asked = processor(text=question, images=image, return_tensors="pt")
    shown = ("pixel_values", "qformer_input_ids", "qformer_attention_mask") if image is not None else ()
    return {"input_ids": made["input_ids"], **{name: asked[name] for name in shown}}


def _blip_processor(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return Blip2Processor(BlipImageProcessorPil.from_pretrained(folder), tokenizer, QUERIES)


def _instructblip_processor(folder: Path) -> Any:
    blip = _blip_processor(folder)
    questions = AutoTokenizer.from_pretrained(folder / "qformer_tokenizer")
    return InstructBlipProcessor(blip.image_processor, blip.tokenizer, questions, QUERIES)


BLIP_DROPOUT = ("qformer_config.hidden_dropout_prob", "qformer_config.attention_probs_dropout_prob")


class _WithoutVideos:
    """Lets transformers' processor be made without its processor of videos, which needs torchvision."""

    def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
        return type(argument)


class _Qwen25Processor(_WithoutVideos, Qwen2_5_VLProcessor):
    pass


class _Qwen3Processor(_WithoutVideos, Qwen3VLProcessor):
    pass


def _qwen_processor(kind: Callable[..., Any], folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    return kind(images, tokenizer, chat_template=tokenizer.chat_template)


class _OnevisionProcessor(_WithoutVideos, LlavaOnevisionProcessor):
    pass


def _onevision_processor(folder: Path) -> Any:
    tokenizer, images = AutoTokenizer.from_pretrained(folder), LlavaOnevisionImageProcessorPil.from_pretrained(folder)
    return _OnevisionProcessor(
        images, tokenizer, None, 16, "full", chat_template=tokenizer.chat_template, vision_aspect_ratio=MOST
    )


def _onevision_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    """What `add_generation_prompt` writes before each answer: the template has a blank more before written ones."""
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>" if has_image and not number else ""
        text += f"<|im_start|>user {shown}\n{question}<|im_end|><|im_start|>assistant\n"
        text += "" if answer is None else f"{answer}<|im_end|>"
    return text


class _SmolVlmProcessor(_WithoutVideos, SmolVLMProcessor):
    pass


def _smolvlm_processor(folder: Path) -> Any:
    processing_smolvlm.num2words = str  # a package for texts of videos
    tokenizer, videos = AutoTokenizer.from_pretrained(folder), SimpleNamespace(num_frames=1, fps=1)
    images = SmolVLMImageProcessorPil.from_pretrained(folder)
    return _SmolVlmProcessor(images, tokenizer, videos, TILE_TOKENS, chat_template=tokenizer.chat_template)


def _idefics3_processor(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Idefics3ImageProcessorPil.from_pretrained(folder)
    return Idefics3Processor(images, tokenizer, TILE_TOKENS, chat_template=tokenizer.chat_template)


def _chat_text(processor: Any, exchanges: Exchanges, has_image: bool) -> str:
    """By the folder's own chat template."""
    messages = []
    for number, (question, answer) in enumerate(exchanges):
        image = [{"type": "image"}] if has_image and not number else []
        messages.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return str(processor.apply_chat_template(messages, add_generation_prompt=exchanges[-1][1] is None))


FOLDER_CHAT = ("chat.template=folder", "chat.system_prompt=none", "chat.image_mode=export")
CASES = {
    case.name: case
    for case in (
        FamilyCase(
            "llava",
            lambda folder, words: write_random_base(folder, words=words),
            ("chat.template=hf", "chat.system_prompt=none"),
            _llava_processor,
            _llava_text,
        ),
        FamilyCase(
            "llava_siglip_qwen2",
            partial(write_tiny_llava, name="llava_siglip_qwen2"),
            ("chat.template=folder", "chat.image_mode=export"),
            _folder_processor,
            _chat_text,
            _folder_inputs,
            behind_end=1,
        ),
        FamilyCase(
            "llava_mistral",
            partial(write_tiny_llava, name="llava_mistral"),
            ("chat.template=folder",),
            _folder_processor,
            _chat_text,
            _folder_inputs,
        ),
        FamilyCase(
            "llava_tied",
            partial(write_tiny_llava, name="llava_tied"),
            ("chat.template=folder",),
            _folder_processor,
            _chat_text,
            _folder_inputs,
            behind_end=1,
        ),
        FamilyCase(
            "llava_next",
            partial(write_tiny_family, name="llava_next"),
            ("chat.template=hf", "chat.system_prompt=none", "chat.image_mode=export"),
            _llava_next_processor,
            _llava_next_text,
        ),
        FamilyCase(
            "llava_next_mistral",
            partial(write_tiny_family, name="llava_next_mistral"),
            ("chat.template=mistral", "chat.system_prompt=none", "chat.image_mode=export"),
            _llava_next_processor,
            _mistral_text,
            packed_refused="the language model sees 96 tokens back",
        ),
        FamilyCase(
            "llava_onevision",
            partial(write_tiny_family, name="llava_onevision"),
            FOLDER_CHAT,
            _onevision_processor,
            _onevision_text,
        ),
        FamilyCase(
            "blip-2",
            partial(write_tiny_family, name="blip-2"),
            ("chat.template=question", "chat.system_prompt=none", "chat.image_mode=export"),
            _blip_processor,
            _blip_text,
            dropout=(*BLIP_DROPOUT, "text_config.dropout"),
        ),
        FamilyCase(
            "instructblip",
            partial(write_tiny_family, name="instructblip"),
            ("chat.template=plain", "chat.system_prompt=none", "chat.image_mode=export"),
            _instructblip_processor,
            _instructblip_text,
            _instructblip_inputs,
            multi_turn=False,
            dropout=BLIP_DROPOUT,
        ),
        FamilyCase(
            "qwen2_5_vl",
            partial(write_tiny_family, name="qwen2_5_vl"),
            FOLDER_CHAT,
            partial(_qwen_processor, _Qwen25Processor),
            _chat_text,
            behind_end=1,
        ),
        FamilyCase(
            "qwen3_vl",
            partial(write_tiny_family, name="qwen3_vl"),
            FOLDER_CHAT,
            partial(_qwen_processor, _Qwen3Processor),
            _chat_text,
            behind_end=1,
        ),
        FamilyCase(
            "smolvlm",
            partial(write_tiny_family, name="smolvlm"),
            FOLDER_CHAT,
            _smolvlm_processor,
            _chat_text,
            behind_end=1,
        ),
    )
}
IDEFICS3 = FamilyCase(
    "idefics3",
    partial(write_tiny_family, name="idefics3"),
    FOLDER_CHAT,
    _idefics3_processor,
    _chat_text,
    behind_end=1,
)
"""Has the class of SmolVLM2, so only `test_smolvlm.py` checks it."""
