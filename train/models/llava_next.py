"""LLaVA-NeXT: LLaVA with images of any shape, cut into tiles (llava-hf/llava-v1.6-vicuna-7b-hf, -mistral-7b-hf).

Tensor shapes: `T` tiles of all images, `N` images, `P` tokens of an image, `S` pixels a side, `H` hidden size.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from configs.errors import ConfigError
from train.chat.templates import PromptStyle
from train.models.pixels import ImageBatch
from train.models.tiles import Size, TileProcessor, tile_processor, tile_tokens


class LlavaNextFamily:
    """LLaVA-NeXT (LLaVA-1.6): tiles, a line-end token a row; the language model is LLaMA or Mistral."""

    name = "LLaVA-NeXT"
    model_type = "llava_next"
    parts = {  # noqa: RUF012 - a constant that implements the protocol's attribute
        "projector": ("model.multi_modal_projector.", "model.image_newline"),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.vision_tower.",),
    }
    flash_attention = True
    chat_templates: tuple[str, ...] = ("llava", "llava_doubled", "hf", "hf_newline", "mistral", "mistral_tight")

    def refuse(self, config: dict[str, Any]) -> str | None:
        """The class token has no place in a grid of tiles (transformers' model would fail on it, too)."""
        strategy = config.get("vision_feature_select_strategy", "default")
        return (
            None if strategy == "default" else f"with vision_feature_select_strategy {strategy!r}; only default works"
        )

    def prompt_style(self, choice: str, config: Any) -> PromptStyle:
        """Vicuna's template as LLaVA trains it, or Mistral's; the authors' `main_results/main.py`."""
        mistral = config.text_config.model_type == "mistral"
        if choice == "official":
            return (
                PromptStyle("mistral_tight", answer_delimiter="[/INST]")
                if mistral
                else PromptStyle("hf", "vicuna_human")
            )
        return PromptStyle("mistral") if mistral else PromptStyle("llava", "vicuna_v1")

    def end_token(self, config: Any) -> int | None:  # noqa: ARG002
        """The tokenizer's."""
        return None

    def instruction_tokenizer(self, folder: Path) -> PreTrainedTokenizerBase | None:  # noqa: ARG002
        """No Q-Former."""
        return None

    def image_tokens(self, config: Any, size: Size | None = None) -> int:
        """P of an image of `size`. Raises `ConfigError` without one: no number holds for all images."""
        if size is None:
            raise ConfigError("how many tokens an image of LLaVA-NeXT becomes depends on the image's size")
        vision = config.vision_config
        return tile_tokens(size, config.image_grid_pinpoints, vision.image_size, vision.patch_size)

    def image_size(self, config: Any) -> int:
        """Side of a tile in pixels."""
        return int(config.vision_config.image_size)

    def pixel_processor(self, folder: Path, config: Any, mode: str) -> TileProcessor:
        """Tiles; `export` is the only mode."""
        only_own_pixels(self.name, mode)
        return tile_processor(folder, self.image_size(config), config.image_grid_pinpoints)

    def resized(self, pixels: TileProcessor, config: Any, size: int) -> TileProcessor:  # noqa: ARG002
        """Refused: a tile of another size becomes another number of tokens."""
        return own_size_only(self.name, pixels.size, size, pixels)

    def embed(self, model: Any, images: ImageBatch) -> torch.Tensor:
        """transformers' own: tower and projector over all tiles, padding dropped, line-end tokens put in."""
        sizes = torch.tensor(images.sizes, device=images.pixels.device)  # (N, 2)
        features = model.model.get_image_features(pixel_values=images.pixels, image_sizes=sizes, return_dict=True)
        return torch.cat(list(features.pooler_output))

    def language_model(self, model: Any) -> nn.Module:
        """The LLaMA or Mistral decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder


P = TypeVar("P")


def own_size_only(name: str, own: int, size: int, pixels: P) -> P:
    """`pixels` where `size` is the tower's `own`. Raises `ConfigError` for another, which only a Q-Former takes."""
    if size != own:
        raise ConfigError(
            f"image_size is {size} and {name}'s tower takes {own}: only BLIP-2 and InstructBLIP, whose Q-Former makes "
            "as many tokens of an image of any size, take another; set image_size to null"
        )
    return pixels


def only_own_pixels(name: str, mode: str) -> None:
    """Raise `ConfigError` for an `image_mode` of LLaVA-1.5's."""
    if mode != "export":
        raise ConfigError(f"image_mode {mode} is LLaVA-1.5's; {name} has a way of its own: set image_mode to export")
