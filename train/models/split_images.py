"""Images split into tiles, as Idefics3 and SmolVLM see them: a grid of whole tiles, then the whole image as one more.

    640 x 480 pixels, longest edge 2,048, tiles of 512 px:  resized to 2048 x 1536, cut into 3 rows of 4 tiles, and the
                                                            whole resized to 512 x 512: 13 tiles

Sides are stretched to whole tiles, so nothing is padded. The uint8 tiles equal those of transformers'
`SmolVLMImageProcessorPil` and `Idefics3ImageProcessorPil` before normalizing, byte for byte.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from configs.errors import ConfigError
from train.models.images import ImageInput, Size
from train.models.pixels import Pixels
from train.models.processor_settings import HALF, Normalization, SettingsReader, class_name, processor_file
from train.models.square_images import PIXELS

PROCESSORS = ("SmolVLMImageProcessor", "Idefics3ImageProcessor")
LARGEST = 4096  # pixels of a side, also where `size` is more
DEFAULTS: dict[str, Any] = HALF | {
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
    "resample": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class SplitImages:
    """Turns RGB images into uint8 tiles (tiles, 3, S, S): the grid row by row, then the whole."""

    side: int  # S in pixels
    longest: int | None  # edge in pixels to which an image is resized before it is split; None: its own
    splits: bool  # without it, only the whole
    resample: Image.Resampling
    normalization: Normalization

    @property
    def description(self) -> str:
        """Such as `tiles of 512 px, longest edge 2,048 px`."""
        if not self.splits:
            return f"{self.side} px, mode squash"
        return f"tiles of {self.side} px" + (f", longest edge {self.longest:,} px" if self.longest else "")

    def grid(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tiles besides the whole, of an image of `size`; (0, 0) where the whole is all."""
        if not self.splits:
            return 0, 0
        height, width = whole_tiles(self._resized(size), self.side)
        rows, columns = height // self.side, width // self.side
        return (0, 0) if rows == columns == 1 else (rows, columns)

    def __call__(self, image: Image.Image, question: str = "") -> ImageInput:  # noqa: ARG002 - features do not read it
        """`pixels` (tiles, 3, S, S) uint8."""
        size = (image.height, image.width)
        rows, columns = self.grid(size)
        image = self._to(image, self._resized(size))
        if self.splits:
            image = self._to(image, whole_tiles((image.height, image.width), self.side))
        tiles = []
        if rows:
            pixels = np.asarray(image).reshape(rows, self.side, columns, self.side, 3)
            tiles.append(pixels.transpose(0, 2, 4, 1, 3).reshape(-1, 3, self.side, self.side))
        whole: Pixels = np.asarray(self._to(image, (self.side, self.side))).transpose(2, 0, 1)
        return ImageInput({PIXELS: np.ascontiguousarray(np.concatenate([*tiles, whole[None]]))})

    def _resized(self, size: Size) -> Size:
        return size if self.longest is None else with_longest_edge(size, self.longest)

    def _to(self, image: Image.Image, size: Size) -> Image.Image:
        return image.resize((size[1], size[0]), self.resample)


def with_longest_edge(size: Size, longest: int) -> Size:
    """Height and width in the shape of `size` whose longer one is `longest`, at most `LARGEST`; the other is even."""
    height, width = size
    ratio = width / height
    shorter = int(longest / ratio) if width >= height else int(longest * ratio)
    shorter = max(shorter + shorter % 2, 1)
    height, width = (shorter, longest) if width >= height else (longest, shorter)
    ratio = width / height
    if width >= height and width > LARGEST:
        height, width = int(LARGEST / ratio), LARGEST
    elif height > width and height > LARGEST:
        height, width = LARGEST, int(LARGEST * ratio)
    return max(height, 1), max(width, 1)


def whole_tiles(size: Size, side: int) -> Size:
    """Height and width in about the shape of `size` that are multiples of `side`, not smaller."""
    height, width = size
    ratio = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        return math.ceil(int(width / ratio) / side) * side, width
    height = math.ceil(height / side) * side
    return height, math.ceil(int(height * ratio) / side) * side


def split_images(folder: Path | None, side: int) -> SplitImages:
    """The image processor of a model folder, for a tower that takes tiles of `side` pixels.

    Raises `ConfigError` if there is none, it makes other tiles, or it has a setting that cannot be honoured.
    """
    file, settings = processor_file(folder)
    if file is None:
        raise ConfigError(
            f"{folder} has no preprocessor_config.json, which says how images are cut into tiles; copy it from where "
            "the model came from"
        )
    found = SettingsReader(file, DEFAULTS | settings)
    kind = class_name(str(settings.get("image_processor_type") or PROCESSORS[0]))
    if kind not in PROCESSORS:
        raise found.refused("image_processor_type", f"this model takes {PROCESSORS[0]}: take the model's own file")
    resizes, tile = found.flag("do_resize", True), _longest_edge(found, "max_image_size")
    if tile != side:
        raise ConfigError(
            f"{file}: max_image_size is {tile} px, the vision tower takes {side} px (image_size of vision_config in "
            "config.json); take both files of the same model"
        )
    longest = _longest_edge(found, "size") if resizes else None
    return SplitImages(side, longest, found.flag("do_image_splitting", True), found.resample(), found.normalization())


def _longest_edge(found: SettingsReader, name: str) -> int:
    value = found.settings[name]
    edge = value.get("longest_edge") if isinstance(value, dict) else None
    if isinstance(edge, bool) or not isinstance(edge, int) or edge < 1 or set(value) != {"longest_edge"}:
        raise found.refused(name, f'supported form: {{"longest_edge": {DEFAULTS[name]["longest_edge"]}}}, in pixels')
    return edge
