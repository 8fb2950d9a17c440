"""Image preprocessing of the families in which every image becomes one square: LLaVA-1.5, BLIP-2 and InstructBLIP.

Tensor shapes: `N` images, `S` pixels a side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from train.models.images import ImageBatch, ImageInput, stacked
from train.models.pixels import PixelProcessor

PIXELS = "pixels"


@dataclass(frozen=True)
class SquareImages:
    """Images of any shape as uint8 pixels of one square size."""

    pixels: PixelProcessor

    @property
    def description(self) -> str:
        """Such as `336 px, mode pad`."""
        return f"{self.pixels.size} px, mode {self.pixels.mode}"

    def __call__(self, image: Image.Image, question: str = "") -> ImageInput:  # noqa: ARG002 - features do not read it
        """`pixels` (3, S, S) uint8."""
        return ImageInput({PIXELS: self.pixels(image)})


def batch_squares(images: Sequence[ImageInput]) -> ImageBatch:
    """`pixels` (N, 3, S, S) uint8."""
    return ImageBatch({PIXELS: stacked([image.arrays[PIXELS] for image in images])}, len(images))


def black_square(side: int) -> ImageBatch:
    """`pixels` (1, 3, S, S) uint8 of one image before normalization, for a micro-batch without any."""
    return ImageBatch({PIXELS: torch.zeros(1, 3, side, side, dtype=torch.uint8)}, 1)
