"""CLIP's zero-shot classification: the class whose sentence is nearest to the image, by cosine (Tables 1 and 9).

One sentence a class ("a photo of a X"), no ensembling. Sentences are embedded once; an image costs one forward pass of
the vision tower. The scores of the classes are the cosines; `logit_scale` times a cosine is transformers'
`logits_per_image`.

Shapes: `N` images, `C` classes, `H` size of the shared space.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel

from configs.errors import ConfigError, DataError, first_line
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig, precision
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.sample import Turn
from eval.models.class_answers import class_answers, write_class_table
from eval.models.image_encoders import ImageEncoder, TransformersEncoder, load_image_encoder, with_weights
from eval.models.memory import within_memory
from eval.tasks.registry import task_output
from eval.types import Answer, Failure

TEXTS = 256  # sentences embedded at a time


class TextEncoder(Protocol):
    """The text half."""

    @property
    def logit_scale(self) -> float:
        """What the model multiplies a cosine by before the softmax."""
        ...

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(C, H) fp32 vectors of length 1."""
        ...


def unit_vectors(texts: Sequence[str], encode: Callable[[list[str]], torch.Tensor]) -> torch.Tensor:
    """(C, H) fp32 vectors of length 1; `encode` maps at most `TEXTS` sentences to their vectors."""
    parts = [list(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)]
    return functional.normalize(torch.cat([encode(part).float() for part in parts]), dim=-1)


@dataclass(frozen=True)
class ClipTexts:
    """The text half of a `CLIPModel`, with the folder's tokenizer."""

    model: CLIPModel
    tokenizer: Any

    @property
    def logit_scale(self) -> float:
        """The learned scale, 100 for OpenAI's models."""
        return float(self.model.logit_scale.detach().float().exp())

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(C, H) fp32 vectors of length 1. Raises `ConfigError` for a sentence that does not fit."""
        positions = int(self.model.config.text_config.max_position_embeddings)

        def encode(part: list[str]) -> torch.Tensor:
            tokens = self.tokenizer(part, padding=True, return_tensors="pt")
            if tokens["input_ids"].shape[1] > positions:
                longest = max(part, key=len)
                raise ConfigError(
                    f"{longest!r} is longer than CLIP's {positions} tokens; shorten protocol.class_sentence"
                )
            inputs = {key: tokens[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
            features: torch.Tensor = self.model.get_text_features(**inputs).pooler_output
            return features

        return unit_vectors(texts, encode)


@dataclass(frozen=True, slots=True)
class ClipPrompt:
    """An image as the encoder takes it, and a hash of the sentences it is compared with."""

    pixels: Any
    prompt_hash: str


class ZeroShotPredictor:
    """Compares images with the sentences of all classes; the answer's text is the nearest class's name."""

    def __init__(self, images: ImageEncoder, texts: TextEncoder, protocol: ProtocolConfig, folder: EvalDir):
        """Embed the sentences and write the folder's table of classes."""
        self.images = images
        self.names = load_class_list(protocol.classes or "").names
        sentences = [protocol.class_sentence.replace("{}", name) for name in self.names]
        self.texts = texts.embed(sentences)  # (C, H)
        self.prompt_hash = hashlib.sha256(json.dumps(sentences).encode()).hexdigest()[:16]
        write_class_table(folder, self.names, texts.logit_scale)

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> ClipPrompt:  # noqa: ARG002
        """The image; the prompt has no text. Raises `DataError` if there is none, or it does not decode."""
        if image is None:
            raise DataError("it has no image, which is a CLIP's only input")
        return ClipPrompt(self.images.pixels(image), self.prompt_hash)

    def predict(self, prompts: Sequence[ClipPrompt]) -> list[Answer | Failure]:
        """The cosines of all classes for all images. Raises `RunError` that names `batch_size` if memory runs out."""
        start = time.monotonic()
        with within_memory(len(prompts), "images"):
            cosines = self.images.embed([prompt.pixels for prompt in prompts]) @ self.texts.T  # (N, C)
        return class_answers(self.names, cosines, start)


class ClipEvalModel:
    """A CLIP in a transformers folder."""

    answer_delimiter = ""
    pads_right = False

    def __init__(self, folder: Path, dtype: str, device: str):
        """Load both halves."""
        self.encoder: TransformersEncoder = load_image_encoder(folder, dtype, device)
        self.identity = self.encoder.identity
        self.texts = ClipTexts(self.encoder.model, read_tokenizer(folder))

    @classmethod
    def load(cls, config: EvalConfig, folder: Path, device: str) -> "ClipEvalModel":
        """Load both halves, after fetching pytorch_model.bin where a hub id has no safetensors."""
        with_weights(folder, config)
        return cls(folder, precision(config), device)

    def predictor(self, config: EvalConfig, folder: EvalDir) -> ZeroShotPredictor:
        """Zero-shot; what generates text is refused by `check_zero_shot`."""
        check_zero_shot(config)
        return ZeroShotPredictor(self.encoder, self.texts, config.protocol, folder)


def read_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer. Raises `ConfigError` without one, where transformers would take an empty one."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ConfigError(
            f"{folder} has no tokenizer (tokenizer.json, or vocab.json and merges.txt); copy it from where the model "
            "came from"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{folder} has no tokenizer that can be read: {first_line(error)}") from error


def check_zero_shot(config: EvalConfig) -> None:
    """Raise `ConfigError` for a task other than zero_shot."""
    if task_output(config.protocol.task) != "similarities":
        raise ConfigError(
            f"{config.model} is a CLIP, which supports only protocol.task zero_shot; it is {config.protocol.task}"
        )
