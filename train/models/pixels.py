"""Images to pixels, exactly as LLaVA trains: padded to a square with the mean colour, resized, normalized as for CLIP.

Workers return uint8; `normalize` runs on the model's device. The modes equal transformers' PIL processors:
`LlavaImageProcessorPil(do_pad=True)` for `pad`, `CLIPImageProcessorPil` for `crop`, and `BlipImageProcessorPil`, which
resizes any shape to a square, for `squash`: identical bytes before normalizing, equal to 1e-6 after. (Their
torchvision versions resize differently, and transformers chooses by what is installed, so this module uses neither.)

`fast` pads and resizes with PyTorch's antialiased bicubic kernel (torchvision's, too): every value is within 2 of 255
of the exact one, in about half the time; `crop` stays exact. `python -m train.benchmarks.pixels` measures both against
transformers.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from configs.errors import ConfigError
from train.models.processor_settings import (
    BLIP,
    LLAVA,
    ImageSettings,
    Normalization,
    Steps,
    read_image_settings,
    standard_steps,
)

BACKGROUND = (122, 116, 104)  # CLIP's mean colour, as LLaVA rounds it
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PixelProcessor:
    """Turns RGB images into (3, size, size) arrays, `size` in pixels.

    `mode` is `pad`, `crop`, `squash`, or `settings`: the `steps` that a folder's image processor has in their place.
    """

    size: int
    mode: str = "pad"
    normalization: Normalization = Normalization()
    fast: bool = False
    resample: Image.Resampling = Image.Resampling.BICUBIC
    background: tuple[int, int, int] = BACKGROUND
    steps: Steps | None = None

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown mode."""
        if self.mode not in ("pad", "crop", "squash", "settings"):
            raise ConfigError(f"image_mode is {self.mode!r}; choose pad or crop")

    def __call__(self, image: Image.Image) -> Pixels:
        """RGB image of any size to a uint8 array (3, size, size), not yet normalized."""
        if self.mode == "pad":
            fast = self.fast and self.resample == Image.Resampling.BICUBIC
            square = self._fast_padded(image) if fast else np.asarray(self._padded(image))
        else:
            steps = self.steps or standard_steps(self.mode, self.size)
            square = np.asarray(self._by_steps(image, steps))
        return np.ascontiguousarray(square.transpose(2, 0, 1))

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """(N, 3, size, size) uint8 to normalized pixels of `dtype`, on the device they are on."""
        return normalize_pixels(pixels, self.normalization, dtype)

    def _padded(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        side = max(width, height)
        if width > height:  # Pillow resizes the rows of a square first, and rows of padding are even: resize the others
            image = self._resized(image, (self.size, height))
            square = Image.new("RGB", (self.size, side), self.background)
            square.paste(image, (0, (side - height) // 2))
            image = square
        elif height > width:
            square = Image.new("RGB", (side, side), self.background)
            square.paste(image, ((side - width) // 2, 0))
            image = square
        return self._resized(image, (self.size, self.size))

    def _by_steps(self, image: Image.Image, steps: Steps) -> Image.Image:
        if steps.pad:
            side = max(image.size)
            square = Image.new("RGB", (side, side), self.background)
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        if steps.exact is not None:
            image = self._resized(image, (steps.exact[1], steps.exact[0]))
        elif steps.shortest is not None:
            short, long = min(image.size), max(image.size)
            other = int(steps.shortest * long / short)
            portrait = image.width <= image.height
            image = self._resized(image, (steps.shortest, other) if portrait else (other, steps.shortest))
        return image if steps.crop is None else _cropped(image, *steps.crop)

    def _resized(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Exactly as Pillow does it; `size` is (width, height)."""
        return image if image.size == size else image.resize(size, self.resample)

    def _fast_padded(self, image: Image.Image) -> Pixels:
        width, height = image.size
        side = max(width, height)
        pixels = np.asarray(image)  # (height, width, 3)
        if width > height:  # as in _padded
            pixels = _fast_resized(pixels, (self.size, height))
        if width != height:
            columns = self.size if width > height else side
            square = np.empty((side, columns, 3), dtype=np.uint8)
            row = np.full((columns, 3), self.background, dtype=np.uint8)
            square[:] = row  # by rows: single pixels take 5x as long
            top, left = (side - height) // 2, (columns - pixels.shape[1]) // 2
            square[top : top + height, left : left + pixels.shape[1]] = pixels
            pixels = square
        return _fast_resized(pixels, (self.size, self.size))


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    """The centre of an image; where it is smaller, black around it."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if left < 0 or top < 0:  # as transformers rounds it: an odd rest goes to the left and top
        canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)))
        canvas.paste(image, ((canvas.width - image.width + 1) // 2, (canvas.height - image.height + 1) // 2))
        left += (canvas.width - image.width + 1) // 2
        top += (canvas.height - image.height + 1) // 2
        image = canvas
    return image.crop((left, top, left + width, top + height))


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

    `image_size` is the vision tower's, in pixels; `pixels` is `exact` or `fast`. Filter, rescaling and normalization
    are the folder's in every mode. Raises `ConfigError` if the folder's size contradicts the tower's, or names a
    setting that cannot be honoured.
    """
    settings = read_image_settings(folder, LLAVA)
    if settings is None:
        return PixelProcessor(image_size, "crop" if mode == "export" else mode, fast=pixels == "fast")
    own = _own_pixels(folder, settings, image_size)
    if mode == "export":
        return replace(own, fast=pixels == "fast")
    if mode == "pad" and not all(0 <= value <= 255 for value in settings.background):
        raise ConfigError(
            f"{folder}: images are padded with the image processor's image_mean, which must be between 0 and 1"
        )
    return replace(own, mode=mode, fast=pixels == "fast", steps=None)


def squashed_pixels(folder: Path | None, image_size: int) -> PixelProcessor:
    """The processor of a BLIP folder. Raises `ConfigError` as `folder_pixels` does."""
    settings = read_image_settings(folder, BLIP)
    return PixelProcessor(image_size, "squash") if settings is None else _own_pixels(folder, settings, image_size)


def _own_pixels(folder: Path | None, settings: ImageSettings, image_size: int) -> PixelProcessor:
    """What the settings ask for. Raises `ConfigError` if that is not what the tower takes."""
    made, steps = settings.steps.result(), settings.steps
    if made != (image_size, image_size):
        text = "images of different shapes" if made is None else f"{made[0]} px" if made[0] == made[1] else None
        text = text or f"{made[0]} x {made[1]} px"  # type: ignore[index]
        raise ConfigError(
            f"{folder}: the image processor makes {text}, the vision tower takes {image_size} px; correct size, "
            "crop_size, do_resize and do_center_crop in the processor's file, or take the file of the model"
        )
    standard = (mode for mode in ("pad", "crop", "squash") if _same_pixels(steps, standard_steps(mode, image_size)))
    mode = next(standard, "settings")
    return PixelProcessor(
        image_size,
        mode,
        settings.normalization,
        resample=settings.resample,
        background=settings.background,
        steps=steps if mode == "settings" else None,
    )


def _same_pixels(steps: Steps, standard: Steps) -> bool:
    """Whether both make the same of every image: a padded image is a square, and a square's crop is itself."""
    return _shortened(steps) == _shortened(standard)


def _shortened(steps: Steps) -> Steps:
    """The same pixels by fewer steps."""
    exact = steps.exact
    if steps.pad and steps.shortest is not None:
        exact = (steps.shortest, steps.shortest)
    if exact is None:
        return steps
    return Steps(steps.pad, exact=exact, crop=None if steps.crop == exact else steps.crop)


def normalize_pixels(
    pixels: torch.Tensor, normalization: Normalization, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(N, 3, S, S) uint8 to normalized pixels of `dtype`, on the device they are on; computed in fp32."""
    means = torch.tensor(normalization.mean, device=pixels.device).view(1, 3, 1, 1)
    deviations = torch.tensor(normalization.std, device=pixels.device).view(1, 3, 1, 1)
    # The usual factor as a division: one rounding less
    usual = abs(normalization.factor * 255 - 1) < 1e-12
    rescaled = pixels.float() / 255 if usual else pixels.float() * normalization.factor
    return ((rescaled - means) / deviations).to(dtype)
