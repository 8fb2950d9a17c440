"""SmolVLM2 (arXiv 2504.05299) and Idefics3 (2408.12637): images cut into tiles, with text that names each tile's place.

    <fake_token_around_image><row_1_col_1><image>… …  and last  <fake_token_around_image><global-img><image>…

A SigLIP tower runs over each tile. The connector, the projector, puts neighbouring patches on top of each other (pixel
shuffle) and maps them to one token. Published: HuggingFaceTB/SmolVLM2-256M-Video-Instruct, -500M-Video-Instruct,
-2.2B-Instruct; of type idefics3 HuggingFaceTB/SmolVLM-256M-Instruct and HuggingFaceM4/Idefics3-8B-Llama3.
Tensor shapes: `T` tiles of all images, `S` pixels a side of a tile, `H` hidden size.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from configs.errors import ConfigError
from train.chat.templates import PromptStyle, folder_style
from train.chat.tokenizer import load_tokenizer
from train.models.image_checks import require_own_mode, require_own_size, require_size
from train.models.images import ImageBatch, ImageInput, Size, joined
from train.models.llava import uneven_window
from train.models.pixels import normalize_pixels
from train.models.split_images import SplitImages, split_images
from train.models.square_images import PIXELS, black_square
from train.models.trainable import TrainableFamily


class SmolVlmFamily(TrainableFamily):
    """Every image becomes tiles of one size, and every tile the same number of tokens."""

    name = "SmolVLM2"
    model_type = "smolvlm"
    parts = {  # noqa: RUF012 - a constant
        "projector": ("model.connector.",),
        "language": ("model.text_model.", "lm_head."),
        "vision": ("model.vision_model.",),
    }
    config_sections = ("text_config", "vision_config")
    chat_templates = ("folder",)

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """A tower whose patches the connector cannot join; layers with and without a window in one language model."""
        vision, scale = config.get("vision_config"), config.get("scale_factor", 2)
        if not isinstance(vision, dict):
            return None
        side, patch = vision.get("image_size", 224), vision.get("patch_size", 32)
        if not all(isinstance(number, int) and number > 0 for number in (side, patch, scale)):
            return f"whose image_size {side!r}, patch_size {patch!r} and scale_factor {scale!r} are not whole numbers"
        if side // patch % scale:
            return (
                f"whose tower makes {side // patch} patches a side (image_size {side}, patch_size {patch}), which "
                f"cannot be joined by scale_factor {scale}; copy config.json from where the model came from"
            )
        return uneven_window(config)

    def prompt_style(self, choice: str) -> PromptStyle:
        """By the folder's chat template."""
        return folder_style(choice, "Assistant:")

    @property
    def _side(self) -> int:
        """S, of the tower's input."""
        return int(self.config.vision_config.image_size)

    @property
    def _tile_tokens(self) -> int:
        """Image tokens of one tile."""
        return int((self._side // self.config.vision_config.patch_size // self.config.scale_factor) ** 2)

    @cached_property
    def _images(self) -> SplitImages:
        return split_images(self.folder, self._side)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        assert self.folder is not None, "without a folder there is no processor either"
        return load_tokenizer(self.folder)

    @cached_property
    def _ids_of_grids(self) -> dict[tuple[int, int], list[int]]:
        return {}

    @property
    def fixed_image_tokens(self) -> int | None:
        """Those of one tile, where the folder's processor does not split images."""
        return None if self._images.splits else self._tile_tokens

    def image_tokens(self, size: Size | None = None) -> int:
        """Those of all tiles. Raises `ConfigError` without a size where images are split."""
        rows, columns = self._grid(size)
        return (rows * columns + 1) * self._tile_tokens

    def image_ids(self, size: Size | None = None) -> Sequence[int]:
        """Image tokens, and the text that names the tiles. Raises `ConfigError` if the tokenizer lacks its tokens."""
        grid = self._grid(size)
        if grid not in self._ids_of_grids:
            self._ids_of_grids[grid] = self._tokenized(*grid)
        return self._ids_of_grids[grid]

    def _grid(self, size: Size | None) -> tuple[int, int]:
        """Rows and columns of tiles besides the whole."""
        if size is None and not self._images.splits:
            return 0, 0
        return self._images.grid(require_size(self.name, size))

    def _tokenized(self, rows: int, columns: int) -> list[int]:
        """The ids of a grid of tiles and the whole image, by one call of the tokenizer as in transformers."""
        tokenizer = self._tokenizer
        around = str(getattr(tokenizer, "fake_image_token", "<fake_token_around_image>"))
        whole = str(getattr(tokenizer, "global_image_token", "<global-img>"))
        image = str(tokenizer.convert_ids_to_tokens(self.image_token_id)) * self._tile_tokens
        lines = (
            "".join(f"{around}<row_{row}_col_{column}>{image}" for column in range(1, columns + 1)) + "\n"
            for row in range(1, rows + 1)
        )
        text = "".join(lines) + ("\n" if rows else "") + f"{around}{whole}{image}{around}"
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        edge = tokenizer.get_vocab().get(around)
        if edge is None or ids[0] != edge or ids[-1] != edge:
            raise ConfigError(
                f"{self.folder}: the tokenizer has no token {around}, which {self.name} writes around an image; copy "
                "tokenizer* and special_tokens_map.json from where the model came from"
            )
        return ids

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> SplitImages:  # noqa: ARG002
        """Tiles; `export` is the only mode, the tower's the only size."""
        require_own_mode(self.name, mode)
        require_own_size(self.name, self._side, size)
        return self._images

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """`pixels` (T, 3, S, S) uint8."""
        return ImageBatch({PIXELS: joined([image.arrays[PIXELS] for image in images])}, len(images))

    def dummy_images(self) -> ImageBatch:
        """One black tile, before normalization."""
        return black_square(self._side)

    def normalized(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(T, 3, S, S) uint8 to normalized pixels of `dtype`."""
        return normalize_pixels(pixels, self._images.normalization, dtype)

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """Tower and connector over all tiles. (transformers takes a tile whose pixels are all 0 for padding.)"""
        pixels = self.normalized(images.tensors[PIXELS], dtype)
        states = model.model.vision_model(pixel_values=pixels, return_dict=True).last_hidden_state
        features: torch.Tensor = model.model.connector(states)
        return features.flatten(0, 1)

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches of all tiles."""
        return int((self._side // self.config.vision_config.patch_size) ** 2) * len(images.tensors[PIXELS])

    def decoder(self, model: Any) -> nn.Module:
        """The LLaMA decoder."""
        decoder: nn.Module = model.model.text_model
        return decoder

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:  # noqa: ARG002
        """As the base's, which the training saw."""
        return settings


class Idefics3Family(SmolVlmFamily):
    """The same with other names: Idefics3, and the first SmolVLM."""

    name = "Idefics3"
    model_type = "idefics3"
