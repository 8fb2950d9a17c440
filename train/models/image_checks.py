"""Settings of images that a family does not have, refused with what it does have."""

from configs.errors import ConfigError
from train.models.images import Size


def require_own_size(family: str, own: int, size: int | None) -> None:
    """Raise `ConfigError` if `size` is not the side length `own` that the vision tower takes."""
    if size not in (None, own):
        raise ConfigError(
            f"image_size is {size} and {family}'s tower takes {own}: only BLIP-2 and InstructBLIP, whose Q-Former "
            "makes as many tokens of an image of any size, take another; set image_size to null"
        )


def require_size(family: str, size: Size | None) -> Size:
    """`size`. Raises `ConfigError` without one, where the number of an image's tokens depends on it."""
    if size is None:
        raise ConfigError(f"how many tokens an image of {family} becomes depends on the image's size")
    return size


def require_own_mode(family: str, mode: str) -> None:
    """Raise `ConfigError` for an `image_mode` of LLaVA-1.5's."""
    if mode != "export":
        raise ConfigError(
            f"image_mode {mode} is LLaVA-1.5's; {family} has another preprocessing: set image_mode to export"
        )
