"""Images as inputs of a model family: one image, a batch of images, and the interface of image processors.

Data-loading processes make an `ImageInput` of each image. The family joins those of a micro-batch to an `ImageBatch`,
which is moved to the device. Only the family interprets the arrays (pixels, tiles and image sizes, token ids of a
Q-Former); other code does not read them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Size = tuple[int, int]  # height and width of an image file, in pixels


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image: the named arrays that the family's model needs."""

    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ImageBatch:
    """`count` images in the order in which they occur in the token ids: named tensors, made by a family."""

    tensors: dict[str, torch.Tensor]
    count: int

    def __len__(self) -> int:
        """Number of images N, which may be 0."""
        return self.count

    def apply(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "ImageBatch":
        """The same images with `change` applied to every tensor."""
        return ImageBatch({name: change(tensor) for name, tensor in self.tensors.items()}, self.count)

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The same images on `device`."""
        return self.apply(lambda tensor: tensor.to(device, non_blocking=True))


NO_IMAGES = ImageBatch({}, 0)


class ImageProcessor(Protocol):
    """Turns an image into what the model takes. Runs in data-loading processes, on the CPU."""

    @property
    def description(self) -> str:
        """Size and mode in a few words."""
        ...

    def __call__(self, image: Image.Image, question: str = "") -> ImageInput:
        """`image` is RGB and of any size; `question` is for a family that `reads_question`.

        Raises `DataError` if the model cannot take it.
        """
        ...


def stacked(arrays: list[NDArray[Any]]) -> torch.Tensor:
    """Arrays of one shape, stacked along a new first axis."""
    return torch.stack([torch.from_numpy(array) for array in arrays])


def joined(arrays: list[NDArray[Any]]) -> torch.Tensor:
    """Arrays whose first axis differs in length, end to end."""
    return torch.cat([torch.from_numpy(array) for array in arrays])


def padded(arrays: list[NDArray[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """One-dimensional id arrays, padded on the right with 0, and their mask: both int64 (N, longest)."""
    ids = torch.zeros(len(arrays), max(map(len, arrays)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, array in enumerate(arrays):
        ids[row, : len(array)] = torch.from_numpy(np.asarray(array, dtype=np.int64))
        mask[row, : len(array)] = 1
    return ids, mask
