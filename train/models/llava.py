"""LLaVA-1.5: a CLIP tower, a two-layer MLP, a LLaMA-type language model (arXiv 2310.03744).

Tensor shapes: `N` images, `P` tokens an image, `S` pixels a side, `H` hidden size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from train.chat.templates import END, FOLDER, PromptStyle
from train.models.chat_files import chat_template_source, folder_end
from train.models.images import ImageBatch, ImageInput, Size
from train.models.pixels import folder_pixels
from train.models.processor_settings import complete_settings, processor_file
from train.models.square_images import PIXELS, SquareImages, batch_squares
from train.models.types import TrainableFamily, require_own_size

CLIP_TOWER = "clip_vision_model"


def other_tower(config: dict[str, Any]) -> str | None:
    """Why a LLaVA with the vision tower of this config.json is not supported, or None for CLIP's.

    Others have no class token, so an image becomes another number of tokens.
    """
    vision = config.get("vision_config")
    tower = vision.get("model_type", CLIP_TOWER) if isinstance(vision, dict) else CLIP_TOWER
    if tower == CLIP_TOWER:
        return _absent_layer(config)
    return f"with the vision tower {tower}; only CLIP towers ({CLIP_TOWER}) work: take a model that has one"


def _absent_layer(config: dict[str, Any]) -> str | None:
    """What is wrong with vision_feature_layer, if the tower has no such layer."""
    chosen, vision = config.get("vision_feature_layer"), config.get("vision_config")
    count = vision.get("num_hidden_layers") if isinstance(vision, dict) else None
    layers = chosen if isinstance(chosen, list) else [chosen]
    if not isinstance(count, int) or all(not isinstance(n, int) or -count - 1 <= n <= count for n in layers):
        return None
    return (
        f"whose vision_feature_layer is {chosen}, and its vision tower has {count} layers (-{count + 1} to {count}); "
        "copy config.json from where the model came from"
    )


def tower_states(tower: Any, pixels: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
    """Hidden states (N, tokens, width) of a CLIP tower as transformers numbers them: 0 is the input of its layers.

    Negative numbers count from the last layer. Only the layers needed run, each as transformers runs it.
    """
    inner = getattr(tower, "vision_model", tower)  # transformers before 5.20
    numbers = [layer + (layer < 0) * (len(inner.encoder.layers) + 1) for layer in layers]
    states = [inner.pre_layrnorm(inner.embeddings(pixels))]
    for layer in inner.encoder.layers[: max(numbers)]:
        states.append(layer(states[-1], None))
    return [states[number] for number in numbers]


class LlavaFamily(TrainableFamily):
    """Every image is one square and becomes the same number of tokens."""

    name = "LLaVA-1.5"
    model_type = "llava"
    parts = {  # noqa: RUF012 - a constant
        "projector": ("model.multi_modal_projector.",),
        "language": ("model.language_model.", "lm_head."),
        "vision": ("model.vision_tower.",),
    }
    config_sections = ("text_config", "vision_config")
    chat_templates = ("llava", "llava_doubled", "hf", "hf_newline", "folder")

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:
        """Towers other than CLIP's."""
        return other_tower(config)

    def prompt_style(self, choice: str) -> PromptStyle:
        """As LLaVA trains; the authors' `main_results/main.py` and `inference_analysis/main.py`.

        A folder whose answers do not end with LLaMA's `</s>` was trained with another template: its own, if it has one.
        """
        if choice == "official":
            return PromptStyle("hf_newline", "none", "The photo features a")
        if self.folder is not None and folder_end(self.folder) not in (None, END) and chat_template_source(self.folder):
            return PromptStyle(FOLDER, "none")
        return PromptStyle("llava", "vicuna_v1")

    @property
    def fixed_image_tokens(self) -> int:
        """Patches of the tower, plus the class token where the strategy keeps it (`full`)."""
        vision = self.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        return int(patches + (self.config.vision_feature_select_strategy == "full"))

    def image_tokens(self, size: Size | None = None) -> int:  # noqa: ARG002
        """The same for all images."""
        return self.fixed_image_tokens

    @property
    def _side(self) -> int:
        """S, of the tower's input."""
        return int(self.config.vision_config.image_size)

    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> SquareImages:
        """Padded or cropped to the tower's square; `export` is what the folder says. No other size."""
        require_own_size(self.name, self._side, size)
        return SquareImages(folder_pixels(self.folder, self._side, mode, "fast" if fast else "exact"))

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """`pixels` (N, 3, S, S) uint8."""
        return batch_squares(images)

    def dummy_images(self) -> ImageBatch:
        """A black square, before normalization."""
        return ImageBatch({PIXELS: torch.zeros(1, 3, self._side, self._side, dtype=torch.uint8)}, 1)

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """(N x P, H): normalized on the device, then tower and projector."""
        return self.image_features(model, self.normalized(images.tensors[PIXELS], dtype)).flatten(0, 1)

    def image_features(self, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalized pixels to (N, P, H).

        Hidden states of the chosen tower layers, class token removed for `default`, through the projector. Layers
        behind the last chosen one do not run.
        """
        layers = self.config.vision_feature_layer
        chosen = tower_states(model.model.vision_tower, pixels, [layers] if isinstance(layers, int) else layers)
        if self.config.vision_feature_select_strategy == "default":
            chosen = [state[:, 1:] for state in chosen]
        features: torch.Tensor = model.model.multi_modal_projector(torch.cat(chosen, dim=-1))
        return features

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches and class token of each image."""
        vision = self.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 + 1) * len(images)

    def decoder(self, model: Any) -> nn.Module:
        """The LLaMA-type decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:
        """With the steps of the training; filter, rescaling and normalization are the base's in every mode."""
        if image_mode == "export" and processor_file(self.folder)[0] is not None:
            return settings
        return settings | complete_settings("crop" if image_mode == "export" else image_mode, self._side)
