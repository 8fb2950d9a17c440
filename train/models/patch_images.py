"""Images as rows of patches at a resolution near their own, as Qwen's models see them.

    640 x 480 pixels, patches of 14 px, 2 x 2 of them a token:  resized to 644 x 476, 46 x 34 patches, 23 x 17 tokens

Sides are rounded to whole tokens, and the image is made larger or smaller where its pixels are not between two limits.
The uint8 patches equal those of transformers' `Qwen2VLImageProcessorPil` before normalizing, byte for byte.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from configs.errors import ConfigError, DataError
from train.models.images import ImageInput, Size
from train.models.processor_settings import Normalization, SettingsReader, class_name, processor_file
from train.models.square_images import PIXELS

GRID = "grid"
PROCESSOR = "Qwen2VLImageProcessor"
SIZE = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}  # pixels; the class's defaults
STRETCHED = 200  # the longest side in shortest sides, as in `smart_resize`


@dataclass(frozen=True)
class PatchShape:
    """What a tower takes: patches of `side` pixels in `frames` equal frames; `merge` x `merge` of them are a token."""

    side: int
    merge: int
    frames: int


@dataclass(frozen=True)
class PatchImages:
    """Turns RGB images into patches; an image has between `least` and `most` pixels."""

    shape: PatchShape
    least: int
    most: int
    resample: Image.Resampling
    normalization: Normalization

    @property
    def description(self) -> str:
        """Such as `3,136 to 1,003,520 pixels in patches of 14 px`."""
        return f"{self.least:,} to {self.most:,} pixels in patches of {self.shape.side} px"

    def grid(self, size: Size) -> tuple[int, int]:
        """Rows and columns of patches of an image of `size`. Raises `DataError` for a shape that is refused."""
        if max(size) > STRETCHED * min(size):
            raise DataError(
                f"its image's longer side is more than {STRETCHED} times the shorter, which the model's image "
                f"processor refuses: {size[1]} x {size[0]} pixels"
            )
        unit = self.shape.side * self.shape.merge
        height, width = smart_resize(*size, factor=unit, min_pixels=self.least, max_pixels=self.most)
        return height // self.shape.side, width // self.shape.side

    def tokens(self, size: Size) -> int:
        """P of an image of `size`. Raises as `grid`."""
        rows, columns = self.grid(size)
        return rows * columns // self.shape.merge**2

    def __call__(self, image: Image.Image, question: str = "") -> ImageInput:  # noqa: ARG002 - features do not read it
        """`pixels` (patches, 3, side, side) uint8, those of a token next to each other; `grid` (rows, columns)."""
        rows, columns = self.grid((image.height, image.width))
        side, merge = self.shape.side, self.shape.merge
        pixels = np.asarray(image.resize((columns * side, rows * side), self.resample))  # (height, width, 3)
        split = pixels.reshape(rows // merge, merge, side, columns // merge, merge, side, 3)
        patches = split.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, side, side)
        return ImageInput({PIXELS: np.ascontiguousarray(patches), GRID: np.array([rows, columns])})


def patch_images(folder: Path | None, shape: PatchShape, limits: tuple[int | None, int | None]) -> PatchImages:
    """The image processor of a model folder; `limits` are other least and most pixels than the folder's.

    Raises `ConfigError` if there is none, it makes other patches than the model takes, or it has a setting that cannot
    be honoured.
    """
    file, settings = processor_file(folder)
    if file is None:
        raise ConfigError(
            f"{folder} has no preprocessor_config.json, which says how many pixels images get; copy it from where the "
            "model came from"
        )
    found = SettingsReader(file, settings)
    kind = class_name(str(settings.get("image_processor_type") or PROCESSOR))
    if kind != PROCESSOR:
        raise found.refused("image_processor_type", f"this model takes {PROCESSOR}: take the model's own file")
    if not found.flag("do_resize", True):
        raise found.refused("do_resize", "images are resized to whole tokens; set it to true")
    for name, wanted in (
        ("patch_size", shape.side),
        ("merge_size", shape.merge),
        ("temporal_patch_size", shape.frames),
    ):
        default = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}[name]
        if settings.get(name, default) != wanted:
            raise ConfigError(
                f"{file}: {name} is {settings.get(name, default)!r}, the vision tower takes {wanted} (vision_config in "
                "config.json); take both files of the same model"
            )
    least, most = _pixel_limits(found)
    least, most = limits[0] or least, limits[1] or most
    if least > most:
        raise ConfigError(
            f"min_pixels {least:,} is more than max_pixels {most:,} ({file}, or the settings); set min_pixels to "
            f"{most} or less, or max_pixels to {least} or more"
        )
    return PatchImages(shape, least, most, found.resample(), found.normalization())


def _pixel_limits(found: SettingsReader) -> tuple[int, int]:
    """Least and most pixels: `min_pixels` and `max_pixels`, or else `size`."""
    size = SIZE if found.settings.get("size") is None else found.settings["size"]
    values = []
    for key, name in (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels")):
        stated = found.settings.get(name)
        value = stated if stated is not None else size.get(key) if isinstance(size, dict) else None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise found.refused(
                name if stated is not None else "size",
                'supported form: {"shortest_edge": 3136, "longest_edge": 1003520}, an image\'s least and most pixels',
            )
        values.append(value)
    return values[0], values[1]
