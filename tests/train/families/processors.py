"""transformers' processor of each family's folder, and the text and inputs that it makes of a conversation."""

from collections.abc import Callable, Sequence
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
from train.toy.tiny_families import QUERIES
from train.toy.tiny_onevision import MOST
from train.toy.tiny_smolvlm import TILE_TOKENS

Inputs = dict[str, torch.Tensor]
Exchanges = Sequence[tuple[str, str | None]]
"""Questions and answers; the last answer may be None: the text then ends where the model is to answer."""


def plain_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> Inputs:
    """What most processors make of a conversation and its image."""
    return dict(processor(text=text, images=image, return_tensors="pt"))


def llava_processor(folder: Path) -> Any:
    images = LlavaImageProcessorPil.from_pretrained(folder)
    return LlavaProcessor(images, load_tokenizer(folder), 8, "default", num_additional_image_tokens=1)


def folder_processor(folder: Path) -> Any:
    """With the folder's chat template; SigLIP's tower has no class token."""
    tokenizer = load_tokenizer(folder)
    siglip = AutoConfig.from_pretrained(folder).vision_config.model_type == "siglip_vision_model"
    images = (SiglipImageProcessorPil if siglip else LlavaImageProcessorPil).from_pretrained(folder)
    strategy, more = ("full", 0) if siglip else ("default", 1)
    return LlavaProcessor(
        images, tokenizer, 8, strategy, num_additional_image_tokens=more, chat_template=tokenizer.chat_template
    )


def folder_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> Inputs:
    """No start token where the template writes it, as `apply_chat_template` tokenizes."""
    begins = text.startswith(str(processor.tokenizer.bos_token))
    return dict(processor(text=text, images=image, return_tensors="pt", add_special_tokens=not begins))


def llava_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>\n" if has_image and not number else ""
        text += f"USER: {shown}{question} ASSISTANT:" + ("" if answer is None else f" {answer}</s>")
    return f"<s>{text}"


def mistral_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>\n" if has_image and not number else ""
        text += f"[INST] {shown}{question} [/INST]" + ("" if answer is None else f" {answer}</s>")
    return text


def llava_next_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    """The processor adds the start token."""
    return llava_text(_, exchanges, has_image).removeprefix("<s>")


def llava_next_processor(folder: Path) -> Any:
    images = LlavaNextImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return LlavaNextProcessor(images, tokenizer, 8, "default", num_additional_image_tokens=1)


def blip_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    """With OPT's end of an answer, a line break."""
    return "".join(
        f"Question: {question} Answer:" + ("" if answer is None else f" {answer}\n") for question, answer in exchanges
    )


def instructblip_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    ((question, answer),) = exchanges
    return question if answer is None else f"{question} {answer}</s>"


def instructblip_inputs(processor: Any, text: str, image: Image.Image | None, question: str) -> Inputs:
    """The Q-Former reads the question alone, the language model question and answer."""
    made = processor(text=text, images=image, return_tensors="pt")
    asked = processor(text=question, images=image, return_tensors="pt")
    shown = ("pixel_values", "qformer_input_ids", "qformer_attention_mask") if image is not None else ()
    return {"input_ids": made["input_ids"], **{name: asked[name] for name in shown}}


def blip_processor(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return Blip2Processor(BlipImageProcessorPil.from_pretrained(folder), tokenizer, QUERIES)


def instructblip_processor(folder: Path) -> Any:
    blip = blip_processor(folder)
    questions = AutoTokenizer.from_pretrained(folder / "qformer_tokenizer")
    return InstructBlipProcessor(blip.image_processor, blip.tokenizer, questions, QUERIES)


class WithoutVideos:
    """Lets transformers' processor be made without its processor of videos, which needs torchvision."""

    def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
        return type(argument)


class Qwen25Processor(WithoutVideos, Qwen2_5_VLProcessor):
    pass


class Qwen3Processor(WithoutVideos, Qwen3VLProcessor):
    pass


def qwen_processor(kind: Callable[..., Any], folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    return kind(images, tokenizer, chat_template=tokenizer.chat_template)


class OnevisionProcessor(WithoutVideos, LlavaOnevisionProcessor):
    pass


def onevision_processor(folder: Path) -> Any:
    tokenizer, images = AutoTokenizer.from_pretrained(folder), LlavaOnevisionImageProcessorPil.from_pretrained(folder)
    return OnevisionProcessor(
        images, tokenizer, None, 16, "full", chat_template=tokenizer.chat_template, vision_aspect_ratio=MOST
    )


def onevision_text(_: Any, exchanges: Exchanges, has_image: bool) -> str:
    """What `add_generation_prompt` writes before each answer: the template has a blank more before written ones."""
    text = ""
    for number, (question, answer) in enumerate(exchanges):
        shown = "<image>" if has_image and not number else ""
        text += f"<|im_start|>user {shown}\n{question}<|im_end|><|im_start|>assistant\n"
        text += "" if answer is None else f"{answer}<|im_end|>"
    return text


class SmolVlmProcessor(WithoutVideos, SmolVLMProcessor):
    pass


def smolvlm_processor(folder: Path) -> Any:
    processing_smolvlm.num2words = str  # a package for texts of videos
    tokenizer, videos = AutoTokenizer.from_pretrained(folder), SimpleNamespace(num_frames=1, fps=1)
    images = SmolVLMImageProcessorPil.from_pretrained(folder)
    return SmolVlmProcessor(images, tokenizer, videos, TILE_TOKENS, chat_template=tokenizer.chat_template)


def idefics3_processor(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Idefics3ImageProcessorPil.from_pretrained(folder)
    return Idefics3Processor(images, tokenizer, TILE_TOKENS, chat_template=tokenizer.chat_template)


def chat_text(processor: Any, exchanges: Exchanges, has_image: bool) -> str:
    """By the folder's own chat template."""
    messages = []
    for number, (question, answer) in enumerate(exchanges):
        image = [{"type": "image"}] if has_image and not number else []
        messages.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return str(processor.apply_chat_template(messages, add_generation_prompt=exchanges[-1][1] is None))
