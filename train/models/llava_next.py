"""LLaVA-NeXT: LLaVA with images of any shape, cut into tiles (llava-hf/llava-v1.6-vicuna-7b-hf, -mistral-7b-hf).

Tensor shapes: `T` tiles of all images, `N` images, `S` pixels a side of a tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from configs.errors import ConfigError
from train.chat.templates import PromptStyle
from train.models.images import ImageBatch, ImageInput, Size, joined, stacked
from train.models.llava import CLIP_TOWER, other_tower
from train.models.square_images import PIXELS
from train.models.tiles import TileProcessor, tile_processor, tile_tokens
from train.models.types import Family, require_own_mode, require_own_size

SIZE = "size"


@dataclass(frozen=True)
class TiledImages:
    """Images as uint8 tiles, with the size they had."""

    pixels: TileProcessor

    @property
    def description(self) -> str:
        """Such as `tiles of 336 px`."""
        return f"tiles of {self.pixels.size} px"

    def __call__(self, image: Image.Image, question: str = "") -> ImageInput:  # noqa: ARG002 - features do not read it
        """`pixels` (tiles, 3, S, S) uint8 and `size` (height, width)."""
        return ImageInput({PIXELS: self.pixels(image), SIZE: np.array([image.height, image.width])})


class LlavaNextFamily(Family):
    """LLaVA-NeXT (LLaVA-1.6): tiles, a line-end token a row; the language model is LLaMA or Mistral."""

    name = "LLaVA-NeXT"
    model_type = "llava_next"
    parts = {  # noqa: RUF012 - a constant
        "projector": ("model.multi_modal_projector.", "model.image_newline"),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.vision_tower.",),
    }
    config_sections = ("text_config", "vision_config")
    chat_templates = ("llava", "llava_doubled", "hf", "hf_newline", "mistral", "mistral_tight", "folder")

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """A class token, which has no place in a grid of tiles (transformers fails on it, too); other towers."""
        strategy = config.get("vision_feature_select_strategy", "default")
        if strategy != "default":
            return f"with vision_feature_select_strategy {strategy!r}; only default works"
        return other_tower(config, (CLIP_TOWER,))

    def prompt_style(self, choice: str) -> PromptStyle:
        """Vicuna's template as LLaVA trains it, or Mistral's; the authors' `main_results/main.py`."""
        mistral = self.config.text_config.model_type == "mistral"
        if choice == "official":
            style = PromptStyle("mistral_tight", answer_delimiter="[/INST]")
            return style if mistral else PromptStyle("hf", "vicuna_human")
        return PromptStyle("mistral") if mistral else PromptStyle("llava", "vicuna_v1")

    @property
    def _side(self) -> int:
        """S, of the tower's input."""
        return int(self.config.vision_config.image_size)

    def image_tokens(self, size: Size | None = None) -> int:
        """Patches of all tiles without padding, and the line ends. Raises `ConfigError` without a size."""
        if size is None:
            raise ConfigError(f"how many tokens an image of {self.name} becomes depends on the image's size")
        return tile_tokens(size, self.config.image_grid_pinpoints, self._side, self.config.vision_config.patch_size)

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> TiledImages:  # noqa: ARG002
        """Tiles; `export` is the only mode, the tower's the only size."""
        require_own_mode(self.name, mode)
        require_own_size(self.name, self._side, size)
        return TiledImages(tile_processor(self.folder, self._side, self.config.image_grid_pinpoints))

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """`pixels` (T, 3, S, S) uint8 and `sizes` (N, 2)."""
        tensors = {name: [image.arrays[name] for image in images] for name in (PIXELS, SIZE)}
        return ImageBatch({PIXELS: joined(tensors[PIXELS]), SIZE: stacked(tensors[SIZE])}, len(images))

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """transformers' own: tower and projector over all tiles, padding dropped, line-end tokens put in."""
        pixels = self.normalized(images.tensors[PIXELS], dtype)
        features = model.model.get_image_features(
            pixel_values=pixels, image_sizes=images.tensors[SIZE], return_dict=True
        )
        return torch.cat(list(features.pooler_output))

    def decoder(self, model: Any) -> nn.Module:
        """The LLaMA or Mistral decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder
