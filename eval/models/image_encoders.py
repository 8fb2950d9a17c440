"""Image encoders: images to one normalized vector each, through the model folder's own processor.

    clip            CLIP's projected image embedding (`image_embeds`): what zero-shot compares with texts, and what the
                    authors put their linear head on (training_analysis/clip: `encode_image`, then normalized)
    blip-2          the ViT-g of BLIP-2 (EVA-CLIP's, without its last block): the class token after the last norm. The
                    paper calls its EVA-G "as used by BLIP-2"; its code used EVA01-CLIP-g-14-plus, projected.

Shapes: `N` images, `H` size of the vector, `S` side of the encoder's input in pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, Blip2VisionModel, CLIPModel

from configs.errors import ConfigError, first_line
from configs.evaluation import EvalConfig
from configs.hub_files import OLD_WEIGHTS, is_hub_error
from data_prep.checksum import sha256_of
from data_prep.images import decode_rgb
from eval.models.model_type import ENCODERS, model_type
from train.models.checked_loading import check_weight_headers, load_checked, read_transformers_config
from train.models.fingerprint import model_identity
from train.models.loading import DTYPES

BLIP2_OTHER_PARTS = (
    "language_model.",
    "language_projection.",
    "qformer.",
    "query_tokens",
    "embeddings.",  # the rest is of BLIP-2's retrieval models
    "itm_head.",
    "text_projection.",
    "vision_projection.",
)
"""Prefixes of the weights in a BLIP-2 folder that are not its vision tower's."""
VISION_NAMES = {r"^vision_model\.": ""}
"""Names of the vision tower in a BLIP-2 folder, and what they are in the tower alone."""


class ImageEncoder(Protocol):
    """An image encoder on whose vectors a linear head is trained."""

    @property
    def identity(self) -> str:
        """Names its weights."""
        ...

    @property
    def feature(self) -> str:
        """The feature's name, as a probe's result calls it."""
        ...

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        ...

    def pixels(self, image: bytes) -> Any:
        """An image as the encoder takes it. Raises `ImageError` if it does not decode."""
        ...

    def embed(self, pixels: list[Any]) -> torch.Tensor:
        """(N, H) fp32 vectors of length 1."""
        ...


@dataclass(frozen=True)
class TransformersEncoder:
    """The image half of a model in a transformers folder; `model` is on its device."""

    model: Any
    processor: Any
    identity: str
    feature: str

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        config = self.model.config
        return int(config.projection_dim if self.feature == "image_embeds" else config.hidden_size)

    def pixels(self, image: bytes) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """(3, S, S) as the folder's processor makes it, with Pillow."""
        made = self.processor(images=decode_rgb(image), return_tensors="np")["pixel_values"][0]
        return np.asarray(made, dtype=np.float32)

    @torch.inference_mode()
    def embed(self, pixels: list[Any]) -> torch.Tensor:
        """(N, H) fp32 vectors of length 1."""
        weight = next(self.model.parameters())
        images = torch.from_numpy(np.stack(pixels)).to(weight.device, weight.dtype)
        if self.feature == "image_embeds":
            vectors = self.model.get_image_features(pixel_values=images).pooler_output
        else:
            vectors = self.model(pixel_values=images).pooler_output
        return functional.normalize(vectors.float(), dim=-1)


def load_image_encoder(folder: Path, dtype: str, device: str) -> TransformersEncoder:
    """The encoder in `folder`. Raises `ConfigError` for a folder without one that is supported."""
    kind = model_type(folder)
    if kind not in ENCODERS:
        raise ConfigError(f"{folder} holds a model of type {kind!r}; supported encoders: {', '.join(ENCODERS)}")
    identity = weights_identity(folder)
    model = _load(folder, kind, dtype).eval().to(device)
    feature = "image_embeds" if kind == "clip" else "vision_pooled"
    processor = own_processor(folder)
    check_processor(folder, processor, int(getattr(model.config, "vision_config", model.config).image_size))
    return TransformersEncoder(model, processor, identity, feature)


def _load(folder: Path, kind: str, dtype: str) -> Any:
    """The model with every weight from the folder: what transformers does not find there, it draws at random."""
    if kind == "clip":
        return load_checked(CLIPModel, folder, dtype=DTYPES[dtype])
    return load_checked(
        Blip2VisionModel, folder, dtype=DTYPES[dtype], key_mapping=VISION_NAMES, other_parts=BLIP2_OTHER_PARTS
    )


def own_processor(folder: Path) -> Any:
    """The folder's image processor, by Pillow wherever it runs: torchvision's resizes differently.

    Raises `ConfigError` if the folder has none.
    """
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{folder} has no image processor that can be read: {first_line(error)}") from error


def check_processor(folder: Path, processor: Any, side: int) -> None:
    """Raise `ConfigError` if `processor` fails, or makes other images than (3, side, side), in pixels."""
    for size in ((3 * side, 2 * side), (side, 2 * side)):
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                made = np.asarray(processor(images=Image.new("RGB", size), return_tensors="np")["pixel_values"][0])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, ZeroDivisionError) as error:
            raise ConfigError(
                f"{folder}: its image processor fails: {first_line(error)}; correct that setting in the "
                "processor's file, or take the file that belongs to the model"
            ) from error
        if made.shape != (3, side, side) or not np.isfinite(made).all():
            shape = " x ".join(map(str, made.shape))
            raise ConfigError(
                f"{folder}: the image processor makes {shape} values of an image of {size[0]} x {size[1]} px, the "
                f"vision tower takes 3 x {side} x {side} finite ones; correct size, crop_size, do_resize, "
                "do_center_crop and image_std in the processor's file, or take the file that belongs to the model"
            )


def weights_identity(folder: Path) -> str:
    """`model_identity`, or the digest of the whole file where weights come as pytorch_model.bin alone."""
    whole = folder / OLD_WEIGHTS
    if any(folder.glob("*.safetensors")) or not whole.is_file():
        return model_identity(folder)
    return sha256_of(whole)


def with_weights(folder: Path, config: EvalConfig) -> None:
    """Fetch pytorch_model.bin of a hub id that has no safetensors, as some published CLIPs have not."""
    if Path(config.model).is_dir() or any(folder.glob("*.safetensors")) or (folder / OLD_WEIGHTS).is_file():
        return
    import huggingface_hub

    try:
        huggingface_hub.hf_hub_download(config.model, OLD_WEIGHTS, revision=config.revision)
    except Exception as error:
        if not is_hub_error(error):
            raise
        raise ConfigError(
            f"{config.model} has no safetensors, and {OLD_WEIGHTS} could not be fetched: {first_line(error)}"
        ) from error


def check_encoder_folder(folder: Path, kind: str) -> None:
    """Raise `ConfigError` if the headers of the weights or the processor of this `kind` of folder do not fit.

    No weight is loaded.
    """
    config = read_transformers_config(folder)
    if any(folder.glob("*.safetensors")):  # some published CLIPs have pytorch_model.bin only
        if kind == "clip":
            check_weight_headers(CLIPModel, folder, config)
        else:
            check_weight_headers(
                Blip2VisionModel,
                folder,
                config.vision_config,
                key_mapping=VISION_NAMES,
                other_parts=BLIP2_OTHER_PARTS,
            )
    check_processor(folder, own_processor(folder), int(config.vision_config.image_size))
