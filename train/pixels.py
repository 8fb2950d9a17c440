"""Images to pixels, exactly as LLaVA trains: padded to a square with the mean colour, resized, normalised as for CLIP.

Workers hand over uint8; `normalise` runs where the model runs. Both modes equal transformers' PIL processors,
by name `LlavaImageProcessorPil(do_pad=True)` for `pad` and `CLIPImageProcessorPil` for `crop`: identical bytes before
normalising, equal to 1e-6 after. (Their torchvision twins resize differently; which of the two a machine would pick
depends on what is installed, so neither is left to chance here.)
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from configs.errors import ConfigError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PixelProcessor:
    """Turns RGB images into (3, size, size) arrays. `mode` is `pad` or `crop`; `size` in pixels."""

    size: int
    mode: str = "pad"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown mode."""
        if self.mode not in ("pad", "crop"):
            raise ConfigError(f"image_mode is {self.mode!r}; choose pad or crop")

    def __call__(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """RGB image of any size to a uint8 array (3, size, size), not yet normalised."""
        square = self._padded(image) if self.mode == "pad" else self._cropped(image)
        return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))

    def normalise(self, pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """(N, 3, size, size) uint8 to normalised pixels of `dtype`, on the device they are on."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return ((pixels.float() / 255 - mean) / std).to(dtype)

    def _padded(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if width != height:
            side = max(width, height)
            colour = tuple(int(value * 255) for value in self.mean)
            square = Image.new("RGB", (side, side), colour)
            square.paste(image, ((side - width) // 2, (side - height) // 2))
            image = square
        return self._resized(image, (self.size, self.size))

    def _cropped(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        short, long = min(width, height), max(width, height)
        other = int(self.size * long / short)
        image = self._resized(image, (self.size, other) if width <= height else (other, self.size))
        left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))

    @staticmethod
    def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def folder_pixels(folder: Path, image_size: int, mode: str) -> PixelProcessor:
    """The processor that a model folder asks for; `mode` `pad` or `crop` overrides, `export` takes the folder's own.

    `image_size` is the vision tower's, in pixels. Raises `ConfigError` if the folder's size contradicts it.
    """
    settings = _processor_settings(folder)
    stated = settings.get("crop_size", image_size)
    size = stated["height"] if isinstance(stated, dict) else stated
    if size != image_size:
        raise ConfigError(f"{folder}: the image processor makes {size} px, the vision tower takes {image_size} px")
    if mode == "export":
        mode = "pad" if settings.get("do_pad") else "crop"
    mean, std = settings.get("image_mean") or CLIP_MEAN, settings.get("image_std") or CLIP_STD
    return PixelProcessor(image_size, mode, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _processor_settings(folder: Path) -> dict[str, Any]:
    """The image processor's settings, in either of the two files transformers keeps them in."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = folder / name
        if file.is_file():
            settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if "image_processor" in settings:
                return dict(settings["image_processor"])
            if "image_mean" in settings:
                return settings
    return {}
