"""The recipe of the tiny CLIP: sizes and training."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecipe:
    """Size and training. `epochs` passes over the images in batches of `images`; sizes in pixels, tokens and units."""

    image_size: int = 32
    patch_size: int = 8
    vision_hidden: int = 96
    vision_layers: int = 4
    text_hidden: int = 64
    text_layers: int = 2
    text_tokens: int = 48
    vocabulary: int = 640
    shared: int = 64
    epochs: int = 30
    images: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    shift: int = 4
    seed: int = 0
