"""LLaVA-OneVision (arXiv 2408.03326): LLaVA-NeXT's tiles with a SigLIP tower and a Qwen2 language model; images only.

An image whose patches would be more than those of nine tiles (`anyres_max_9`) is scaled down after the projector.
Published: llava-hf/llava-onevision-qwen2-0.5b-ov-hf, -7b-ov-hf, -72b-ov-hf, and the same with -si-hf, of single images.
"""

import re
from typing import Any

import torch

from train.chat.templates import PromptStyle, folder_style
from train.models.image_checks import require_own_mode, require_own_size, require_size
from train.models.images import ImageBatch, Size
from train.models.llava import SIGLIP_TOWER, other_tower, tower_states, uneven_window
from train.models.llava_next import SIZE, LlavaNextFamily, TiledImages
from train.models.processor_settings import LLAVA_ONEVISION
from train.models.square_images import PIXELS
from train.models.tiles import tile_processor, tile_tokens

MOST_TILES = re.compile(r"anyres_max_(\d+)")


class LlavaOnevisionFamily(LlavaNextFamily):
    """As LLaVA-NeXT, with all patches of a tower without class token, and at most about as many as of some tiles."""

    name = "LLaVA-OneVision"
    model_type = "llava_onevision"
    chat_templates = ("folder",)

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """Features without the first patch, which leave no grid; no limit of tiles; other towers; uneven windows."""
        strategy, ratio = config.get("vision_feature_select_strategy", "full"), config.get("vision_aspect_ratio")
        if strategy != "full":
            return f"with vision_feature_select_strategy {strategy!r}; only full works"
        if ratio is not None and not MOST_TILES.fullmatch(str(ratio)):
            return f"with vision_aspect_ratio {ratio!r}; only anyres_max_ and a number work"
        return other_tower(config, (SIGLIP_TOWER,)) or uneven_window(config)

    def prompt_style(self, choice: str) -> PromptStyle:
        """By the folder's chat template (ChatML)."""
        return folder_style(choice, "<|im_start|>assistant")

    def image_tokens(self, size: Size | None = None) -> int:
        """Patches of the whole, and of all tiles without padding, scaled down, with their line ends."""
        found = MOST_TILES.fullmatch(self.config.vision_aspect_ratio)
        assert found is not None, "others are refused"
        grid, patch = self.config.image_grid_pinpoints, int(self.config.vision_config.patch_size)
        return tile_tokens(require_size(self.name, size), grid, self._side, patch, int(found[1]))

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> TiledImages:  # noqa: ARG002
        """Tiles; `export` is the only mode, the tower's the only size."""
        require_own_mode(self.name, mode)
        require_own_size(self.name, self._side, size)
        grid = self.config.image_grid_pinpoints
        return TiledImages(tile_processor(self.folder, self._side, grid, LLAVA_ONEVISION))

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """Tower and projector over all tiles; transformers drops the padding, scales, and puts the line ends in."""
        inner = model.model
        pixels = self.normalized(images.tensors[PIXELS], dtype)
        states = tower_states(inner.vision_tower, pixels, self.config)
        features = inner.multi_modal_projector(torch.cat(states, dim=-1))
        sizes = images.tensors[SIZE].tolist()
        packed, _ = inner.pack_image_features(
            features.split([self._tiles(size) for size in sizes]),
            sizes,
            image_newline=inner.image_newline,
            vision_aspect_ratio=self.config.vision_aspect_ratio,
        )
        return torch.cat(packed)

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches of each tile."""
        return (self._side // int(self.config.vision_config.patch_size)) ** 2 * len(images.tensors[PIXELS])

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:  # noqa: ARG002
        """As the base's, which the training saw, with the model's grid; a base without a processor gets its class."""
        own = {"image_processor_type": LLAVA_ONEVISION, "size": {"height": self._side, "width": self._side}}
        grid = [list(resolution) for resolution in self.config.image_grid_pinpoints]
        return own | settings | {"image_grid_pinpoints": grid}
