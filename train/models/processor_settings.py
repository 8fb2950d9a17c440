"""The image processor's settings of a model folder: read, completed by its class's defaults, and checked.

A setting has the same effect as in transformers, or is refused with an error that names it. Source of the defaults
and of the rules: transformers' `CLIPImageProcessorPil`, `SiglipImageProcessorPil`, `LlavaImageProcessorPil`,
`LlavaNextImageProcessorPil`, `LlavaOnevisionImageProcessorPil`, `BlipImageProcessorPil`. A flag that is null is off;
another setting that is null is refused where it is needed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Resampling

from configs.errors import ConfigError
from train.models.model_folder import read_object

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RESCALE = 1 / 255
CLIP, SIGLIP, LLAVA, LLAVA_NEXT, LLAVA_ONEVISION, BLIP = (
    "CLIPImageProcessor",
    "SiglipImageProcessor",
    "LlavaImageProcessor",
    "LlavaNextImageProcessor",
    "LlavaOnevisionImageProcessor",
    "BlipImageProcessor",
)
NESTED, FLAT = "processor_config.json", "preprocessor_config.json"
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
SQUARE_384 = {"height": 384, "width": 384}
DEFAULTS: dict[str, dict[str, Any]] = {
    CLIP: {"size": {"shortest_edge": 224}, "do_center_crop": True},
    SIGLIP: {"size": {"height": 224, "width": 224}, "do_center_crop": False} | HALF,
    LLAVA: {"size": {"shortest_edge": 224}, "do_center_crop": True},
    LLAVA_NEXT: {"size": {"shortest_edge": 224}, "do_center_crop": True},
    LLAVA_ONEVISION: {"size": SQUARE_384, "do_center_crop": False, "crop_size": None},
    BLIP: {"size": SQUARE_384, "do_center_crop": False},
}
"""Per class, where they differ; an integer `size` is a square's side for BLIP and the shortest edge for the others."""

Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Normalization:
    """What 8-bit values become: (value x factor - mean) / std, per channel."""

    factor: float = RESCALE
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True)
class Steps:
    """How an image becomes a rectangle: padded to a square, resized, cropped from the centre, in this order."""

    pad: bool = False
    shortest: int | None = None
    """Resize so that the shorter edge has as many pixels."""
    exact: Size | None = None
    """(height, width) to which images of any shape are resized."""
    crop: Size | None = None
    """Where the image is smaller it is surrounded with black."""

    def result(self) -> Size | None:
        """Height and width of every image, or None if they depend on the image."""
        square = (self.shortest, self.shortest) if self.pad and self.shortest else None
        return self.crop or self.exact or square


@dataclass(frozen=True)
class ImageSettings:
    """One folder's image processor."""

    processor: str
    steps: Steps
    resample: Resampling
    normalization: Normalization
    background: tuple[int, int, int]
    """Colour that images are padded with: `image_mean` as 8-bit values, as LLaVA rounds it."""
    size: Size
    """`size`, one number twice."""
    crop: Size
    """`crop_size`, also where nothing is cropped."""


def standard_steps(mode: str, side: int) -> Steps:
    """The steps that `pad`, `crop` and `squash` mean for a tower that takes `side` pixels."""
    if mode == "squash":
        return Steps(exact=(side, side))
    return Steps(pad=mode == "pad", shortest=side, crop=(side, side))


def read_image_settings(folder: Path | None, default: str) -> ImageSettings | None:
    """The settings in `folder`, or None if it has none; `default` is the class where the file names none.

    Raises `ConfigError` that names a setting that cannot be honoured, and the file.
    """
    file, settings = processor_file(folder)
    if file is None:
        return None
    found = SettingsReader(file, settings)
    kind = _kind(found, default)
    found.settings = DEFAULTS[kind] | settings
    resizes, crops = found.flag("do_resize", True), found.flag("do_center_crop", False)
    size_rule = found.size("size", square=found.flag("default_to_square", kind == BLIP), needed=resizes)
    size = size_rule.exact or (size_rule.shortest or 0, size_rule.shortest or 0)
    uncropped = size if "crop_size" in DEFAULTS[kind] else (224, 224)
    crop = found.size("crop_size", square=True, needed=crops).exact or uncropped
    pad = found.flag("do_pad", False) and kind == LLAVA
    for name, read in (("pad_size", found.flag("do_pad", False)), ("use_square_size", True)):
        if read and found.settings.get(name):
            raise found.refused(name, "it is not supported; remove it, and say the same by size")
    steps = Steps(
        pad,
        size_rule.shortest if resizes else None,
        size_rule.exact if resizes else None,
        crop if crops else None,
    )
    normalizes = found.flag("do_normalize", True)
    black = not normalizes and settings.get("image_mean", CLIP_MEAN) is None
    mean = (0.0, 0.0, 0.0) if black else found.channels("image_mean", CLIP_MEAN)
    background = (int(mean[0] * 255), int(mean[1] * 255), int(mean[2] * 255))
    if pad and not all(0 <= value <= 255 for value in background):
        raise found.refused("image_mean", "images are padded with this colour (do_pad), so it must be between 0 and 1")
    return ImageSettings(kind, steps, found.resample(), found.normalization(), background, size, crop)


def processor_file(folder: Path | None) -> tuple[Path | None, dict[str, Any]]:
    """The file that transformers would read the image processor from, and its settings; (None, {}) without one.

    Raises `ConfigError` if a file is not valid JSON.
    """
    if folder is None:
        return None, {}
    nested = read_object(folder / NESTED) if (folder / NESTED).is_file() else {}
    if isinstance(nested.get("image_processor"), dict):
        return folder / NESTED, dict(nested["image_processor"])
    if (folder / FLAT).is_file():
        settings = read_object(folder / FLAT)
        inner = settings.get("image_processor")
        return folder / FLAT, dict(inner) if isinstance(inner, dict) else settings
    return (folder / NESTED, nested) if "image_mean" in nested else (None, {})


def complete_settings(mode: str, side: int) -> dict[str, Any]:
    """The settings by which transformers makes what `mode` (`pad`, `crop`) makes for a tower of `side` pixels."""
    return {
        "image_processor_type": LLAVA if mode == "pad" else CLIP,
        "do_pad": mode == "pad",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
    }


def own_normalization(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation by the class that `settings` name, where they are not CLIP's."""
    defaults = DEFAULTS.get(class_name(str(settings.get("image_processor_type"))), {})
    return {name: defaults[name] for name in HALF if name in defaults}


def class_name(stated: str) -> str:
    """A processor's class without the suffix of its fast twin."""
    return stated.removesuffix("Fast").removesuffix("Pil")


def _kind(found: "SettingsReader", default: str) -> str:
    """The class that the settings are for, without the suffix of its fast twin."""
    extractor = str(found.settings.get("feature_extractor_type") or default)
    stated = found.settings.get("image_processor_type") or extractor.replace("FeatureExtractor", "ImageProcessor")
    kind = class_name(str(stated))
    if kind not in DEFAULTS:
        raise ConfigError(
            f"{found.file}: image_processor_type is {stated!r}; supported: {', '.join(DEFAULTS)}; take the file that "
            "belongs to the model"
        )
    return kind


@dataclass
class SettingsReader:
    """Single settings of one file, checked."""

    file: Path
    settings: Mapping[str, Any]

    def refused(self, name: str, reason: str) -> ConfigError:
        """The error for one setting."""
        return ConfigError(f"{self.file}: {name} is {self.settings.get(name)!r}; {reason}")

    def flag(self, name: str, default: bool) -> bool:
        """A truth value; null is off."""
        value = self.settings.get(name, default)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.refused(name, "it must be true or false")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self.settings.get(name, default)
        if not _is_number(value):
            raise self.refused(name, "it must be a number")
        return float(value)

    def resample(self) -> Resampling:
        """Pillow's filter."""
        value = self.settings.get("resample", Resampling.BICUBIC)
        if isinstance(value, bool) or value not in list(Resampling):
            known = ", ".join(f"{entry.value} ({entry.name.lower()})" for entry in sorted(Resampling))
            raise self.refused("resample", f"it must be one of {known}")
        return Resampling(value)

    def size(self, name: str, *, square: bool, needed: bool) -> Steps:
        """As `exact` or `shortest`; an integer is a square's side if `square`, else the shortest edge.

        Neither where the setting is null and not `needed`.
        """
        value = self.settings.get(name, {"height": 224, "width": 224})
        if value is None and not needed:
            return Steps()
        if isinstance(value, list) and len(value) == 2:
            value = {"height": value[0], "width": value[1]}
        if isinstance(value, int):
            value = {"height": value, "width": value} if square else {"shortest_edge": value}
        given = {key: side for key, side in value.items() if side is not None} if isinstance(value, dict) else {}
        if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in given.values()):
            raise self.refused(name, "sides are whole numbers of pixels above 0")
        if set(given) == {"height", "width"}:
            return Steps(exact=(given["height"], given["width"]))
        if set(given) == {"shortest_edge"}:  # a crop of one number is a square in older files
            side = given["shortest_edge"]
            return Steps(exact=(side, side)) if name == "crop_size" else Steps(shortest=side)
        raise self.refused(name, 'supported forms: 336, {"height": 336, "width": 336}, {"shortest_edge": 336}')

    def normalization(self) -> Normalization:
        """Rescaling and normalization, each of which may be off."""
        factor = self.number("rescale_factor", RESCALE) if self.flag("do_rescale", True) else 1.0
        if not self.flag("do_normalize", True):
            return Normalization(factor, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        std = self.channels("image_std", CLIP_STD)
        if not all(std):
            raise self.refused("image_std", "it must not be 0")
        return Normalization(factor, self.channels("image_mean", CLIP_MEAN), std)

    def channels(self, name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three numbers; one number is for all channels."""
        value = self.settings.get(name, list(default))
        values = [value] * 3 if _is_number(value) else value
        if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
            raise self.refused(name, "it must be a list of three numbers, for red, green and blue")
        return float(values[0]), float(values[1]), float(values[2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
