"""BLIP-2: a Q-Former turns the image into a few tokens, which precede the text (arXiv 2301.12597).

(Salesforce/blip2-opt-2.7b, -6.7b; the variants with T5 are refused by name.) The part `projector` is what LAVIS trains
with `freeze_vit: True`, as the paper's authors did (`lavis/models/blip2_models/blip2_opt.py`): query tokens, Q-Former,
language projection, and the norm behind the vision tower, which LAVIS calls `ln_vision`.
Tensor shapes: `N` images, `Q` query tokens, `S` pixels a side, `H` hidden size.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import nn
from transformers import GenerationMixin

from configs.errors import ConfigError
from train.chat.templates import PromptStyle
from train.models.image_checks import require_own_mode
from train.models.images import ImageBatch, ImageInput, ImageProcessor, Size
from train.models.pixels import squashed_pixels
from train.models.processor_settings import BLIP
from train.models.square_images import PIXELS, SquareImages, batch_squares, black_square
from train.models.trainable import TrainableFamily


class Blip2Family(TrainableFamily):
    """BLIP-2 with a decoder such as OPT."""

    name = "BLIP-2"
    model_type = "blip-2"
    parts = {  # noqa: RUF012 - a constant
        "projector": ("query_tokens", "qformer.", "language_projection.", "vision_model.post_layernorm."),
        "language": ("language_model.",),
        "vision": ("vision_model.",),
    }
    flash_attention = False  # its Q-Former has no such kernel in transformers
    config_sections = ("text_config", "vision_config")
    chat_templates = ("question", "plain")
    resized = False
    """Whether the tower takes images of another size than the folder's processor makes (`take_image_size`)."""
    own_style = PromptStyle("question")
    official_style = PromptStyle(
        "question", class_prefix="A", prefix_in_question=True, answer_delimiter="Answer:", class_token_ids="misaligned"
    )

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """Encoder-decoders are prompted and scored in another way; without an image token nothing marks the image."""
        if "t5" in (language := str(config.get("text_config", {}).get("model_type", "opt"))):
            return f"with the encoder-decoder {language}; only those with a decoder (OPT, Vicuna) work"
        if config.get("image_token_index") is None and config.get("image_token_id") is None:
            return "without image_token_index in its config.json; take a revision that has it"
        return None

    def prompt_style(self, choice: str) -> PromptStyle:
        """BLIP-2's own question form; the authors score class names after "A", and reason in the question."""
        return self.official_style if choice == "official" else self.own_style

    @property
    def end_token(self) -> int | None:
        """As the language model's config says: BLIP-2 with OPT ends an answer with a line break, not with OPT's end."""
        end = self.config.text_config.eos_token_id
        return end if isinstance(end, int) else None

    @property
    def fixed_image_tokens(self) -> int:
        """Q for every image."""
        return int(self.config.num_query_tokens)

    def image_tokens(self, size: Size | None = None) -> int:  # noqa: ARG002
        """The same for all images."""
        return self.fixed_image_tokens

    @property
    def _side(self) -> int:
        """S, of the tower's input."""
        return int(self.config.vision_config.image_size)

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> ImageProcessor:  # noqa: ARG002
        """Squashed to a square; `export` is the only mode.

        For another `size` the tower's position embeddings are interpolated; the Q-Former makes as many tokens of it.
        """
        require_own_mode(self.name, mode)
        patch = int(self.config.vision_config.patch_size)
        if size is not None and size % patch:
            above = -(-size // patch) * patch
            raise ConfigError(
                f"image_size is {size}; {self.name} cuts images into patches of {patch} pixels a side: set a multiple, "
                f"such as {above}"
            )
        pixels = squashed_pixels(self.folder, self._side)
        if size in (None, self._side):
            return SquareImages(pixels)
        if pixels.steps is not None:
            raise ConfigError(
                f"image_size is {size}, and the image processor of {self.folder} does more than resize an image to a "
                "square (crop_size, do_resize, do_center_crop in its file); set image_size to null, or correct the file"
            )
        return SquareImages(replace(pixels, size=size))

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """`pixels` (N, 3, S, S) uint8."""
        return batch_squares(images)

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """transformers' own (N, Q, H), in a row."""
        pixels = self.normalized(images.tensors[PIXELS], dtype)
        features: torch.Tensor = model.get_image_features(
            pixels,
            **self.q_former_inputs(images),
            interpolate_pos_encoding=self._interpolates(pixels),
            return_dict=True,
        ).pooler_output
        return features.flatten(0, 1)

    def dummy_images(self) -> ImageBatch:
        """A black square, before normalization."""
        return black_square(self._side)

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches and class token of each image."""
        side, patch = images.tensors[PIXELS].shape[-1], int(self.config.vision_config.patch_size)
        return ((side // patch) ** 2 + 1) * len(images)

    def take_image_size(self, model: Any, size: int | None, dtype: torch.dtype) -> Self:
        """The position embeddings are interpolated once, as transformers does it for each image."""
        if size in (None, self._side):
            return self
        embeddings = model.vision_model.embeddings
        weight = embeddings.position_embedding
        tokens = weight.new_zeros(1, (size // int(embeddings.patch_size)) ** 2 + 1, weight.shape[-1], dtype=dtype)
        with torch.no_grad():
            embeddings.position_embedding = nn.Parameter(weight.to(dtype))
            interpolated = embeddings.interpolate_pos_encoding(tokens, size, size)
        embeddings.position_embedding = nn.Parameter(interpolated.to(weight.dtype))
        model.config.vision_config.image_size = size
        family = type(self)(model.config, self.folder)
        family.resized = True
        return family

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:  # noqa: ARG002
        """As the base's, with the size of the training; a base without a processor gets BLIP's."""
        side = {"height": self._side, "width": self._side}
        changed = {
            name: side for name in ("size", "crop_size") if self.resized and (name == "size" or name in settings)
        }
        return {"image_processor_type": BLIP, "size": side} | settings | changed

    def q_former_inputs(self, images: ImageBatch) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Inputs of the Q-Former besides the image: none in BLIP-2."""
        return {}

    def _interpolates(self, pixels: torch.Tensor) -> bool:
        return bool(pixels.shape[-1] != self._side)

    def decoder(self, model: Any) -> nn.Module:
        """The decoder inside of the language model: OPT's (with its own positions), LLaMA's."""
        decoder: nn.Module = model.language_model.get_decoder()
        return decoder

    def generator(self, model: Any) -> Any:
        """The language model, which has no image positions to fill."""
        return model.language_model if isinstance(model.language_model, GenerationMixin) else model
