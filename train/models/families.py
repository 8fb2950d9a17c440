"""What differs between model families: where the parts are, how many tokens an image takes, how features are made.

One small object a family. LLaVA-1.5 is here; LLaVA-NeXT (`train.models.llava_next`), BLIP-2 and InstructBLIP
(`train.models.blip2`) are evaluated only, and say so when a training asks.
Tensor shapes: `N` images, `P` tokens an image, `H` hidden size of the language model, `S` pixels a side.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from configs.errors import ConfigError
from train.chat.templates import PromptStyle
from train.models.blip2 import Blip2Family, InstructBlipFamily
from train.models.llava_next import LlavaNextFamily, own_size_only
from train.models.pixels import ImageBatch, PixelProcessor, folder_pixels
from train.models.tiles import TileProcessor

Size = tuple[int, int]  # height and width of an image file, in pixels


class Family(Protocol):
    """The interface evaluation and export use."""

    name: str
    """What people call it."""
    model_type: str
    """`model_type` in config.json."""
    parts: dict[str, tuple[str, ...]]
    """Part (`projector`, `language`, `vision`) to the prefixes of its parameter names."""
    flash_attention: bool
    """Whether transformers runs it with flash attention."""
    chat_templates: tuple[str, ...]
    """The chat_templates (`train.chat.templates.CHAT_TEMPLATES`) it understands."""

    def refuse(self, config: dict[str, Any]) -> str | None:
        """Why a model with this config.json is not supported, or None."""
        ...

    def prompt_style(self, choice: str, config: Any) -> PromptStyle:
        """How it is spoken to: `family`, as it was trained; `official`, as the paper's authors do it."""
        ...

    def end_token(self, config: Any) -> int | None:
        """The token that ends an answer where that is not the tokenizer's end token."""
        ...

    def instruction_tokenizer(self, folder: Path) -> PreTrainedTokenizerBase | None:
        """The tokenizer of a Q-Former that reads the question."""
        ...

    def image_tokens(self, config: Any, size: Size | None = None) -> int:
        """P, the number of tokens that an image of `size` becomes; only some families look at the size."""
        ...

    def image_size(self, config: Any) -> int:
        """S, the side of the vision tower's input in pixels."""
        ...

    def pixel_processor(self, folder: Path, config: Any, mode: str) -> PixelProcessor | TileProcessor:
        """How images become uint8 pixels for an evaluation. Raises `ConfigError` for a mode that it does not have."""
        ...

    def resized(self, pixels: Any, config: Any, size: int) -> Any:
        """`pixels`, of `pixel_processor`, made `size` pixels a side. Raises `ConfigError` if the tower cannot."""
        ...

    def embed(self, model: Any, images: ImageBatch) -> torch.Tensor:
        """(sum of P over the images, H): the embeddings of all images in a row."""
        ...

    def language_model(self, model: Any) -> nn.Module:
        """The decoder without its head: takes `inputs_embeds`, gives hidden states."""
        ...


class TrainableFamily(Family, Protocol):
    """What training needs beyond: an image that takes the same number of tokens whatever its size or the question."""

    def image_features(self, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalized pixels to (N, P, H) embeddings in the language model's space."""
        ...


class LlavaFamily:
    """LLaVA-1.5: a CLIP tower, a two-layer MLP, a LLaMA-type language model (arXiv 2310.03744)."""

    name = "LLaVA-1.5"
    model_type = "llava"
    parts = {  # noqa: RUF012 - a constant that implements the protocol's attribute
        "projector": ("model.multi_modal_projector.",),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.vision_tower.",),
    }
    flash_attention = True
    chat_templates: tuple[str, ...] = ("llava", "llava_doubled", "hf", "hf_newline")

    def refuse(self, config: dict[str, Any]) -> str | None:  # noqa: ARG002
        """Nothing is refused."""
        return None

    def prompt_style(self, choice: str, config: Any) -> PromptStyle:  # noqa: ARG002
        """As LLaVA trains; the authors' `main_results/main.py` and `inference_analysis/main.py`."""
        if choice == "official":
            return PromptStyle("hf_newline", "none", "The photo features a")
        return PromptStyle("llava", "vicuna_v1")

    def end_token(self, config: Any) -> int | None:  # noqa: ARG002
        """The tokenizer's."""
        return None

    def instruction_tokenizer(self, folder: Path) -> PreTrainedTokenizerBase | None:  # noqa: ARG002
        """No Q-Former."""
        return None

    def image_tokens(self, config: Any, size: Size | None = None) -> int:  # noqa: ARG002
        """Patches of the tower, plus the class token where the strategy keeps it (`full`)."""
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        return int(patches + (config.vision_feature_select_strategy == "full"))

    def image_size(self, config: Any) -> int:
        """Side of the tower's input in pixels."""
        return int(config.vision_config.image_size)

    def pixel_processor(self, folder: Path, config: Any, mode: str) -> PixelProcessor:
        """Padded or cropped to the tower's square; `export` is what the folder says."""
        return folder_pixels(folder, self.image_size(config), mode)

    def resized(self, pixels: PixelProcessor, config: Any, size: int) -> PixelProcessor:  # noqa: ARG002
        """Refused: an image of another size becomes another number of tokens."""
        return own_size_only(self.name, pixels.size, size, pixels)

    def image_features(self, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        """Hidden states of the chosen tower layer, class token removed for `default`, through the projector."""
        config = model.config
        layers = config.vision_feature_layer
        states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        chosen = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
        if config.vision_feature_select_strategy == "default":
            chosen = [state[:, 1:] for state in chosen]
        features: torch.Tensor = model.model.multi_modal_projector(torch.cat(chosen, dim=-1))
        return features

    def embed(self, model: Any, images: ImageBatch) -> torch.Tensor:
        """Every image takes as many."""
        return self.image_features(model, images.pixels).flatten(0, 1)

    def language_model(self, model: Any) -> nn.Module:
        """The LLaMA-type decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder


TRAINABLE: tuple[TrainableFamily, ...] = (LlavaFamily(),)
FAMILIES: tuple[Family, ...] = (*TRAINABLE, LlavaNextFamily(), Blip2Family(), InstructBlipFamily())


def family_of(folder: Path) -> Family:
    """The family of the model in `folder`, by its config.json. Raises `ConfigError` for any other, by name."""
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder} has no config.json; it is not a model folder")
    config = json.loads(file.read_text(encoding="utf-8"))
    for family in FAMILIES:
        if family.model_type == config.get("model_type"):
            if reason := family.refuse(config):
                raise ConfigError(f"{folder} holds a {family.name} model {reason}")
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise ConfigError(f"{folder} holds a model of type {config.get('model_type')!r}; supported: {known}")


def trainable_family_of(folder: Path) -> TrainableFamily:
    """The same for a training. Raises `ConfigError` also for a family that is only evaluated."""
    family = family_of(folder)
    for trainable in TRAINABLE:
        if trainable.model_type == family.model_type:
            return trainable
    known = ", ".join(f"{trainable.name} ({trainable.model_type})" for trainable in TRAINABLE)
    raise ConfigError(
        f"{folder} holds a {family.name} model ({family.model_type}), which can be evaluated and not trained; "
        f"training supports {known}: set model.base to such a model"
    )


def part_of(name: str, family: Family) -> str:
    """Which part the parameter `name` belongs to, or `other`."""
    for part, prefixes in family.parts.items():
        if name.startswith(prefixes):
            return part
    return "other"
