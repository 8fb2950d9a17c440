"""Images to pixels, exactly as LLaVA trains: padded to a square with the mean colour, resized, normalized as for CLIP.

Workers hand over uint8; `normalize` runs where the model runs. The modes equal transformers' PIL processors, by name
`LlavaImageProcessorPil(do_pad=True)` for `pad`, `CLIPImageProcessorPil` for `crop`, and `BlipImageProcessorPil`, which
resizes to a square whatever the shape, for `squash`: identical bytes before normalizing, equal to 1e-6 after. (Their
torchvision twins resize differently; which of the two a machine would pick depends on what is installed, so neither is
left to chance here.)

`fast` pads and resizes with PyTorch's antialiased bicubic kernel (torchvision's, too): every value is within 2 of 255
of the exact one, in about half the time; `crop` stays exact. `python -m train.benchmarks.pixels` measures both against
transformers.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from configs.errors import ConfigError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PixelProcessor:
    """Turns RGB images into (3, size, size) arrays. `mode` is `pad`, `crop` or `squash`; `size` in pixels."""

    size: int
    mode: str = "pad"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    fast: bool = False

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown mode."""
        if self.mode not in ("pad", "crop", "squash"):
            raise ConfigError(f"image_mode is {self.mode!r}; choose pad or crop")

    def __call__(self, image: Image.Image) -> Pixels:
        """RGB image of any size to a uint8 array (3, size, size), not yet normalized."""
        if self.mode == "crop":
            square = np.asarray(self._cropped(image))
        elif self.mode == "squash":
            square = np.asarray(_resized(image, (self.size, self.size)))
        else:
            square = self._fast_padded(image) if self.fast else np.asarray(self._padded(image))
        return np.ascontiguousarray(square.transpose(2, 0, 1))

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """(N, 3, size, size) uint8 to normalized pixels of `dtype`, on the device they are on."""
        return normalize_pixels(pixels, self.mean, self.std, dtype)

    @property
    def _padding(self) -> tuple[int, ...]:
        """The mean colour, as LLaVA rounds it."""
        return tuple(int(value * 255) for value in self.mean)

    def _padded(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        side = max(width, height)
        if width > height:  # Pillow resizes the rows of a square first, and rows of padding are even: resize the others
            image = _resized(image, (self.size, height))
            square = Image.new("RGB", (self.size, side), self._padding)
            square.paste(image, (0, (side - height) // 2))
            image = square
        elif height > width:
            square = Image.new("RGB", (side, side), self._padding)
            square.paste(image, ((side - width) // 2, 0))
            image = square
        return _resized(image, (self.size, self.size))

    def _cropped(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        short, long = min(width, height), max(width, height)
        other = int(self.size * long / short)
        image = _resized(image, (self.size, other) if width <= height else (other, self.size))
        left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))

    def _fast_padded(self, image: Image.Image) -> Pixels:
        width, height = image.size
        side = max(width, height)
        pixels = np.asarray(image)  # (height, width, 3)
        if width > height:  # as in _padded
            pixels = _fast_resized(pixels, (self.size, height))
        if width != height:
            columns = self.size if width > height else side
            square = np.empty((side, columns, 3), dtype=np.uint8)
            row = np.full((columns, 3), self._padding, dtype=np.uint8)
            square[:] = row  # by rows: single pixels take 5x as long
            top, left = (side - height) // 2, (columns - pixels.shape[1]) // 2
            square[top : top + height, left : left + pixels.shape[1]] = pixels
            pixels = square
        return _fast_resized(pixels, (self.size, self.size))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bicubic, exactly as Pillow does it; `size` is (width, height)."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _fast_resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) to `size` (width, height): Pillow's filter with coarser weights, by PyTorch's vector kernel.

    Rows first, as Pillow resizes squares: what lies below 0 or above 255 is cut off between the two passes, so in
    the other order sharp edges would differ by 20 and more.
    """
    width, height = size
    for shape in ((pixels.shape[0], width), (height, width)):
        if pixels.shape[:2] != shape:
            planes = torch.tensor(pixels).permute(2, 0, 1)[None]  # strides stay (H, W, 3): the kernel wants them so
            pixels = interpolate(planes, shape, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    return pixels


def folder_pixels(folder: Path | None, image_size: int, mode: str, pixels: str = "exact") -> PixelProcessor:
    """The processor that a model folder asks for; `mode` `pad` or `crop` overrides, `export` takes the folder's own.

    `image_size` is the vision tower's, in pixels; `pixels` is `exact` or `fast`. Raises `ConfigError` if the folder's
    size contradicts the tower's.
    """
    settings = processor_settings(folder)
    stated = settings.get("crop_size", image_size)
    size = stated["height"] if isinstance(stated, dict) else stated
    if size != image_size:
        raise ConfigError(f"{folder}: the image processor makes {size} px, the vision tower takes {image_size} px")
    if mode == "export":
        mode = "pad" if settings.get("do_pad") else "crop"
    return PixelProcessor(image_size, mode, *mean_and_std(settings), pixels == "fast")


def squashed_pixels(folder: Path | None, image_size: int) -> PixelProcessor:
    """The processor of a BLIP folder. Raises `ConfigError` if the folder's size contradicts the tower's."""
    settings = processor_settings(folder)
    stated = settings.get("size", {"height": image_size, "width": image_size})
    if stated.get("height") != image_size or stated.get("width") != image_size:
        raise ConfigError(f"{folder}: the image processor makes {stated} px, the vision tower takes {image_size} px")
    return PixelProcessor(image_size, "squash", *mean_and_std(settings))


def normalize_pixels(
    pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(N, 3, S, S) uint8 to normalized pixels of `dtype`, on the device they are on; computed in fp32."""
    means = torch.tensor(mean, device=pixels.device).view(1, 3, 1, 1)
    deviations = torch.tensor(std, device=pixels.device).view(1, 3, 1, 1)
    return ((pixels.float() / 255 - means) / deviations).to(dtype)


def mean_and_std(settings: dict[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """What pixels are normalized by, CLIP's unless the processor's settings say otherwise."""
    mean, std = settings.get("image_mean") or CLIP_MEAN, settings.get("image_std") or CLIP_STD
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def processor_settings(folder: Path | None) -> dict[str, Any]:
    """The image processor's settings, in either of the two files transformers keeps them in; {} without a folder."""
    if folder is None:
        return {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = folder / name
        if file.is_file():
            settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
            if "image_processor" in settings:
                return dict(settings["image_processor"])
            if "image_mean" in settings:
                return settings
    return {}
