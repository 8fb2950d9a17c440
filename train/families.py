"""What differs between model families: where the parts are, how many tokens an image takes, how features are made.

One small object a family. LLaVA-1.5 is here; LLaVA-NeXT, BLIP-2 and InstructBLIP follow with the same four methods.
Tensor shapes: `N` images, `P` tokens an image, `H` hidden size of the language model, `S` pixels a side.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from configs.errors import ConfigError


class Family(Protocol):
    """The interface training, evaluation and export use."""

    model_type: str
    """`model_type` in config.json."""
    parts: dict[str, tuple[str, ...]]
    """Part (`projector`, `language`, `vision`) to the prefixes of its parameter names."""

    def image_tokens(self, config: Any) -> int:
        """P, the number of tokens that an image becomes."""
        ...

    def image_size(self, config: Any) -> int:
        """S, the side of the vision tower's input in pixels."""
        ...

    def image_features(self, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalised pixels to (N, P, H) embeddings in the language model's space."""
        ...

    def language_model(self, model: Any) -> nn.Module:
        """The decoder without its head: takes `inputs_embeds`, gives hidden states."""
        ...


class LlavaFamily:
    """LLaVA-1.5: a CLIP tower, a two-layer MLP, a LLaMA-type language model (arXiv 2310.03744)."""

    model_type = "llava"
    parts = {  # noqa: RUF012 - a constant that implements the protocol's attribute
        "projector": ("model.multi_modal_projector.",),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.vision_tower.",),
    }

    def image_tokens(self, config: Any) -> int:
        """Patches of the tower, plus the class token where the strategy keeps it (`full`)."""
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        return int(patches + (config.vision_feature_select_strategy == "full"))

    def image_size(self, config: Any) -> int:
        """Side of the tower's input in pixels."""
        return int(config.vision_config.image_size)

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

    def language_model(self, model: Any) -> nn.Module:
        """The LLaMA-type decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder


FAMILIES: tuple[Family, ...] = (LlavaFamily(),)


def family_of(folder: Path) -> Family:
    """The family of the model in `folder`, by its config.json. Raises `ConfigError` for any other, by name."""
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder} has no config.json; it is not a model folder")
    model_type = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise ConfigError(f"{folder} holds a model of type {model_type!r}; supported: {known}")


def part_of(name: str, family: Family) -> str:
    """Which part the parameter `name` belongs to, or `other`."""
    for part, prefixes in family.parts.items():
        if name.startswith(prefixes):
            return part
    return "other"
