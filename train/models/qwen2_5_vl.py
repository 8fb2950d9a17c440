"""Qwen2.5-VL: images of any resolution, positions of three numbers (arXiv 2502.13923; Qwen/Qwen2.5-VL-7B-Instruct).

The vision tower attends within windows, and in few layers over the whole image; its merger, the projector, makes one
token of 2 x 2 patches. Tensor shapes: `N` images, `P` tokens of an image, `S` pixels a side of a patch.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from configs.errors import ConfigError
from train.chat.templates import PromptStyle, folder_style
from train.models.grid_positions import grid_positions
from train.models.image_checks import require_own_mode, require_size
from train.models.images import ImageBatch, ImageInput, Size, joined, stacked
from train.models.patch_images import GRID, PatchImages, PatchShape, patch_images
from train.models.pixels import normalize_pixels
from train.models.square_images import PIXELS
from train.models.trainable import TrainableFamily


class Qwen25VlFamily(TrainableFamily):
    """Every image keeps its shape, and with it has its own number of tokens."""

    name = "Qwen2.5-VL"
    model_type = "qwen2_5_vl"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "projector": ("model.visual.merger.",),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.visual.",),
    }
    config_sections: ClassVar[tuple[str, ...]] = ("vision_config",)
    chat_templates = ("folder",)
    image_token = "<|image_pad|>"
    any_resolution = True
    compiled_vision = False
    several_positions = True

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """A language model without sizes, or with a sliding window, which packed rows and trees of names lack."""
        text = config.get("text_config", config)
        if not isinstance(text, dict) or "hidden_size" not in text:
            return (
                "whose config.json has no sizes of the language model (text_config); copy config.json from where the "
                "model came from"
            )
        if text.get("use_sliding_window"):
            return "with a sliding window (use_sliding_window), which no published one has; only full attention works"
        return None

    def prompt_style(self, choice: str) -> PromptStyle:
        """By the folder's chat template (ChatML)."""
        return folder_style(choice, "<|im_start|>assistant")

    @property
    def _shape(self) -> PatchShape:
        vision = self.config.vision_config
        return PatchShape(int(vision.patch_size), int(vision.spatial_merge_size), int(vision.temporal_patch_size))

    @cached_property
    def _images(self) -> PatchImages:
        return patch_images(self.folder, self._shape, self.pixel_limits)

    def image_tokens(self, size: Size | None = None) -> int:
        """One for 2 x 2 patches. Raises `ConfigError` without a size, `DataError` for a shape that is refused."""
        return self._images.tokens(require_size(self.name, size))

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> PatchImages:  # noqa: ARG002
        """Patches at about the image's own resolution; `export` is the only mode."""
        require_own_mode(self.name, mode)
        if size is not None:
            raise ConfigError(f"image_size is {size}; images of {self.name} keep their shape: set max_pixels instead")
        return self._images

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """`pixels` (patches of all images, 3, S, S) uint8 and `grid` (N, 2), rows and columns of patches."""
        arrays = {name: [image.arrays[name] for image in images] for name in (PIXELS, GRID)}
        return ImageBatch({PIXELS: joined(arrays[PIXELS]), GRID: stacked(arrays[GRID])}, len(images))

    def dummy_images(self) -> ImageBatch:
        """A black image of one token."""
        side, merge = self._shape.side, self._shape.merge
        pixels = torch.zeros(merge * merge, 3, side, side, dtype=torch.uint8)
        return ImageBatch({PIXELS: pixels, GRID: torch.tensor([[merge, merge]])}, 1)

    def normalized(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(patches, 3, S, S) uint8 to (patches, numbers of a patch): normalized, and repeated for each frame."""
        patches = normalize_pixels(pixels, self._images.normalization, dtype)
        return patches[:, :, None].expand(-1, -1, self._shape.frames, -1, -1).flatten(1)

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """The tower's tokens, merged."""
        features: torch.Tensor = self.run_tower(model, images, dtype).pooler_output
        return features

    def run_tower(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> Any:
        """transformers' own output of the tower for all patches."""
        pixels, grid = self.normalized(images.tensors[PIXELS], dtype), images.tensors[GRID]
        return model.model.visual(pixels, grid_thw=torch.cat([torch.ones_like(grid[:, :1]), grid], 1), return_dict=True)

    def positions(self, ids: torch.Tensor, sequence_ids: torch.Tensor, images: ImageBatch) -> torch.Tensor:
        """(3, B, T): time, row and column (`train.models.grid_positions`)."""
        grid = images.tensors[GRID] if len(images) else torch.empty(0, 2, dtype=torch.long)
        return grid_positions(ids == self.image_token_id, sequence_ids, (grid // self._shape.merge).to(ids.device))

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches of all images."""
        return len(images.tensors[PIXELS])

    def decoder(self, model: Any) -> nn.Module:
        """Qwen's decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:  # noqa: ARG002
        """With the least and most pixels of the training."""
        limits = {"min_pixels": self._images.least, "max_pixels": self._images.most}
        size = {"shortest_edge": limits["min_pixels"], "longest_edge": limits["max_pixels"]}
        return {"size": size} | {name: limit for name, limit in limits.items() if name in settings}
