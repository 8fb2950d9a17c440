"""Images to tiles, as LLaVA-NeXT and -OneVision see them: the whole squashed to a square, then a grid in its shape.

    640 x 480 pixels, tower of 336:  the whole, resized to 336 x 336; then, resized to 672 x 504 and padded with black
                                     to 672 x 672, its upper left, upper right, lower left, lower right: 5 tiles

The grid is the one of the model's resolutions that keeps most of the image. The uint8 tiles equal those of
transformers' `LlavaNextImageProcessorPil` before normalizing, byte for byte. After the tower, rows and columns that
show padding only are dropped again and a line-end token follows each row: the number of tokens depends on the shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import select_best_resolution

from configs.errors import ConfigError
from train.models.images import Size
from train.models.pixels import PixelProcessor, Pixels
from train.models.processor_settings import LLAVA_NEXT, processor_file, read_image_settings


@dataclass(frozen=True)
class TileProcessor:
    """Turns RGB images into (tiles, 3, size, size) arrays; `grid` lists resolutions, `square` makes the first tile."""

    square: PixelProcessor
    grid: tuple[Size, ...]

    @property
    def size(self) -> int:
        """S, the side of a tile in pixels."""
        return self.square.size

    def __call__(self, image: Image.Image) -> Pixels:
        """RGB image of any size to uint8 tiles (tiles, 3, size, size): the whole image, then the grid row by row."""
        height, width = best_resolution((image.height, image.width), self.grid)
        canvas = np.zeros((height, width, 3), dtype=np.uint8)  # black, as in transformers (not the mean colour)
        new_height, new_width = _fitting((image.height, image.width), (height, width))
        top, left = (height - new_height) // 2, (width - new_width) // 2
        resized = image.resize((new_width, new_height), self.square.resample)
        canvas[top : top + new_height, left : left + new_width] = np.asarray(resized)
        tiles = [self.square(image)]
        for row in range(0, height, self.size):
            for column in range(0, width, self.size):
                tile = canvas[row : row + self.size, column : column + self.size]
                tiles.append(np.ascontiguousarray(tile.transpose(2, 0, 1)))
        return np.stack(tiles)

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """(T, 3, size, size) uint8 to normalized pixels of `dtype`, on the device they are on."""
        return self.square.normalize(pixels, dtype)


def best_resolution(size: Size, grid: Sequence[Size]) -> Size:
    """The resolution of `grid` that keeps most of an image of `size`, then wastes least."""
    height, width = select_best_resolution(size, list(grid))
    return int(height), int(width)


def tiles_of(size: Size, grid: Sequence[Size], image_size: int) -> int:
    """Number of tiles of an image of `size`: the whole, and the grid."""
    height, width = best_resolution(size, grid)
    return 1 + math.ceil(height / image_size) * math.ceil(width / image_size)


def tile_tokens(
    size: Size, grid: Sequence[Size], image_size: int, patch_size: int, most_tiles: int | None = None
) -> int:
    """P of an image of `size`: patches of the whole, patches of the grid without padding, an end for each of its rows.

    Patches of the grid that are clearly more than those of `most_tiles` are scaled down to about as many. The same
    arithmetic as the model's own (`pack_image_features` of `LlavaNextModel` and `LlavaOnevisionModel`).
    """
    side = image_size // patch_size
    height, width = best_resolution(size, grid)
    rows, columns = height // image_size * side, width // image_size * side
    if size[1] / size[0] > columns / rows:
        rows -= 2 * ((rows - int(round(size[0] * (columns / size[1]), 7))) // 2)
    else:
        columns -= 2 * ((columns - int(round(size[1] * (rows / size[0]), 7))) // 2)
    ratio = 1.0 if most_tiles is None else math.sqrt(rows * columns / (most_tiles * side**2))
    if ratio > 1.1:
        rows, columns = int(rows // ratio), int(columns // ratio)
    return side * side + rows * columns + rows


def tile_processor(
    folder: Path | None, image_size: int, grid: Sequence[Sequence[int]], kind: str = LLAVA_NEXT
) -> TileProcessor:
    """The processor of a folder, whose class is `kind`, with the model's own grid of (height, width).

    Raises `ConfigError` where the folder's processor makes other tiles than the model takes.
    """
    resolutions = tuple((int(height), int(width)) for height, width in grid)
    settings = read_image_settings(folder, kind)
    if settings is None:
        return TileProcessor(PixelProcessor(image_size, "squash"), resolutions)
    if settings.processor != kind:
        raise ConfigError(
            f"{folder}: image_processor_type is {settings.processor}; this model's images are cut into tiles by "
            f"{kind}: take the processor's file of the model"
        )
    if sides := {*settings.size, *settings.crop} - {image_size}:
        raise ConfigError(
            f"{folder}: the image processor makes {max(sides)} px, the vision tower takes {image_size} px (size and "
            "crop_size in the processor's file)"
        )
    stated = processor_file(folder)[1].get("image_grid_pinpoints")
    if stated is not None and tuple(map(tuple, stated)) != resolutions:  # the first wins where two fit alike
        raise ConfigError(f"{folder}: image_grid_pinpoints of the image processor and of config.json differ")
    square = PixelProcessor(image_size, "squash", settings.normalization, resample=settings.resample)
    return TileProcessor(square, resolutions)


def _fitting(size: Size, target: Size) -> Size:
    """Height and width of an image of `size` that fills `target` as far as its shape allows."""
    scale_height, scale_width = target[0] / size[0], target[1] / size[1]
    if scale_width < scale_height:
        return min(math.ceil(size[0] * scale_width), target[0]), target[1]
    return target[0], min(math.ceil(size[1] * scale_height), target[1])
