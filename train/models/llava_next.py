"""LLaVA-NeXT: LLaVA with images of any shape, cut into tiles (llava-hf/llava-v1.6-vicuna-7b-hf, -mistral-7b-hf).

Tower and projector run over all tiles. Then rows and columns that show padding only are dropped, and `image_newline`, a
vector that is trained with the projector, ends each row. Tensor shapes: `T` tiles of all images, `N` images, `S` pixels
a side of a tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from train.chat.templates import PromptStyle
from train.models.image_checks import require_own_mode, require_own_size, require_size
from train.models.images import ImageBatch, ImageInput, Size, joined, stacked
from train.models.llava import CLIP_TOWER, other_tower, tower_runs, tower_states, uneven_window
from train.models.processor_settings import LLAVA_NEXT
from train.models.square_images import PIXELS
from train.models.tiles import TileProcessor, tile_processor, tile_tokens, tiles_of
from train.models.trainable import TrainableFamily

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


class LlavaNextFamily(TrainableFamily):
    """LLaVA-NeXT (LLaVA-1.6): tiles, a line-end token a row; the language model is LLaMA or Mistral."""

    name = "LLaVA-NeXT"
    model_type = "llava_next"
    parts = {  # noqa: RUF012 - a constant
        "projector": ("model.multi_modal_projector.", "model.image_newline"),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.vision_tower.",),
    }
    config_sections = ("text_config", "vision_config")
    chat_templates: ClassVar[tuple[str, ...]] = (
        "llava",
        "llava_doubled",
        "hf",
        "hf_newline",
        "mistral",
        "mistral_tight",
        "folder",
    )

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """A class token, which has no place in a grid of tiles (transformers fails on it, too); other towers.

        Layers with and without a window in one language model.
        """
        strategy = config.get("vision_feature_select_strategy", "default")
        if strategy != "default":
            return f"with vision_feature_select_strategy {strategy!r}; only default works"
        return other_tower(config, (CLIP_TOWER,)) or uneven_window(config)

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
        grid, patch = self.config.image_grid_pinpoints, self.config.vision_config.patch_size
        return tile_tokens(require_size(self.name, size), grid, self._side, patch)

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> TiledImages:  # noqa: ARG002
        """Tiles; `export` is the only mode, the tower's the only size."""
        require_own_mode(self.name, mode)
        require_own_size(self.name, self._side, size)
        return TiledImages(tile_processor(self.folder, self._side, self.config.image_grid_pinpoints))

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """`pixels` (T, 3, S, S) uint8 and `sizes` (N, 2)."""
        tensors = {name: [image.arrays[name] for image in images] for name in (PIXELS, SIZE)}
        return ImageBatch({PIXELS: joined(tensors[PIXELS]), SIZE: stacked(tensors[SIZE])}, len(images))

    def dummy_images(self) -> ImageBatch:
        """A black image that fills the smallest grid: the line end is run as well."""
        size = min(self.config.image_grid_pinpoints, key=lambda resolution: resolution[0] * resolution[1])
        pixels = torch.zeros(self._tiles(size), 3, self._side, self._side, dtype=torch.uint8)
        return ImageBatch({PIXELS: pixels, SIZE: torch.tensor([list(size)])}, 1)

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """Tower and projector over all tiles; transformers drops the padding and puts the line ends in.

        Tower layers behind the last chosen one do not run.
        """
        inner = model.model
        pixels = self.normalized(images.tensors[PIXELS], dtype)
        states = tower_states(inner.vision_tower, pixels, self.config)
        features = inner.multi_modal_projector(torch.cat([state[:, 1:] for state in states], dim=-1))
        sizes = images.tensors[SIZE].tolist()
        of_images = features.split([self._tiles(size) for size in sizes])
        strategy = self.config.vision_feature_select_strategy
        packed, _ = inner.pack_image_features(of_images, sizes, strategy, image_newline=inner.image_newline)
        return torch.cat(packed)

    def _tiles(self, size: Sequence[int]) -> int:
        """Tiles of an image of `size` (height, width)."""
        return tiles_of((size[0], size[1]), self.config.image_grid_pinpoints, self._side)

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches of each tile, and CLIP's class token."""
        return ((self._side // int(self.config.vision_config.patch_size)) ** 2 + 1) * len(images.tensors[PIXELS])

    def runs(self, parameter: str) -> bool:
        """As LLaVA-1.5: the tower's last layers have no effect."""
        return self.part_of(parameter) != "vision" or tower_runs(parameter, self.config)

    def decoder(self, model: Any) -> nn.Module:
        """The LLaMA or Mistral decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:  # noqa: ARG002
        """As the base's, which the training saw, with the model's grid; a base without a processor gets its class."""
        side = {"height": self._side, "width": self._side}
        own = {"image_processor_type": LLAVA_NEXT, "size": {"shortest_edge": self._side}, "crop_size": side}
        grid = [list(resolution) for resolution in self.config.image_grid_pinpoints]
        return own | settings | {"image_grid_pinpoints": grid}
