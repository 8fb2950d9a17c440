"""LLaVA-1.5: a CLIP or SigLIP tower, a two-layer MLP, a LLaMA-type language model (arXiv 2310.03744).

Tensor shapes: `N` images, `P` tokens an image, `S` pixels a side, `H` hidden size.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from train.chat.templates import END, FOLDER, PromptStyle
from train.models.chat_files import chat_template_source, folder_end
from train.models.image_checks import require_own_size
from train.models.images import ImageBatch, ImageInput, Size
from train.models.pixels import folder_pixels
from train.models.processor_settings import complete_settings, own_normalization, processor_file
from train.models.square_images import PIXELS, SquareImages, batch_squares, black_square
from train.models.trainable import TrainableFamily

CLIP_TOWER, SIGLIP_TOWER = "clip_vision_model", "siglip_vision_model"


def other_tower(config: dict[str, Any], towers: tuple[str, ...]) -> str | None:
    """Why a LLaVA with the vision tower of this config.json is not supported, or None if it is one of `towers`."""
    vision = config.get("vision_config")
    tower = vision.get("model_type", CLIP_TOWER) if isinstance(vision, dict) else CLIP_TOWER
    if tower in towers:
        return _absent_layer(config)
    return f"with the vision tower {tower}; only {' and '.join(towers)} work: take a model that has one"


def uneven_window(config: dict[str, Any]) -> str | None:
    """Why a language model of this config.json is not supported: a sliding window in some of its layers only."""
    text = config.get("text_config")
    kinds = set(text.get("layer_types") or []) if isinstance(text, dict) else set()
    if len(kinds) < 2:
        return None
    listed = ", ".join(sorted(map(str, kinds)))
    return f"whose language model mixes kinds of layers (layer_types: {listed}); take a model with one kind"


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


def tower_states(tower: Any, pixels: torch.Tensor, config: Any) -> list[torch.Tensor]:
    """Hidden states (N, tokens, width) of a CLIP's or SigLIP's tower behind the layers that a LLaVA's `config` chooses.

    Only the layers needed run, each as transformers runs it.
    """
    inner = getattr(tower, "vision_model", tower)  # transformers before 5.20
    numbers = _chosen_layers(config)
    first = inner.embeddings(pixels)
    states = [inner.pre_layrnorm(first) if hasattr(inner, "pre_layrnorm") else first]
    for layer in inner.encoder.layers[: max(numbers)]:
        states.append(layer(states[-1], None))
    return [states[number] for number in numbers]


def _chosen_layers(config: Any) -> list[int]:
    """vision_feature_layer as transformers numbers hidden states: 0 is the input, -1 the last layer's."""
    chosen, count = config.vision_feature_layer, int(config.vision_config.num_hidden_layers)
    return [layer + (layer < 0) * (count + 1) for layer in ([chosen] if isinstance(chosen, int) else chosen)]


def tower_runs(parameter: str, config: Any) -> bool:
    """Whether a parameter of the vision tower is run: not layers behind the last chosen one, nor what follows them."""
    found = re.search(r"\.encoder\.layers\.(\d+)\.", parameter)
    if found:
        return int(found[1]) < max(_chosen_layers(config))
    return ".embeddings." in parameter or ".pre_layrnorm." in parameter


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
        """Towers other than CLIP's and SigLIP's; layers with and without a window in one language model."""
        return other_tower(config, (CLIP_TOWER, SIGLIP_TOWER)) or uneven_window(config)

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
    def _tower_tokens(self) -> int:
        """Patches, and CLIP's class token."""
        vision = self.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 + (vision.model_type == CLIP_TOWER))

    @property
    def fixed_image_tokens(self) -> int:
        """The tower's tokens, for `default` without the first: CLIP's class token, or a patch of SigLIP's."""
        return self._tower_tokens - int(self.config.vision_feature_select_strategy == "default")

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
        return black_square(self._side)

    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """(N x P, H): normalized on the device, then tower and projector."""
        return self.image_features(model, self.normalized(images.tensors[PIXELS], dtype)).flatten(0, 1)

    def image_features(self, model: Any, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) normalized pixels to (N, P, H).

        Hidden states of the chosen tower layers, the first token removed for `default`, through the projector. Layers
        behind the last chosen one do not run.
        """
        chosen = tower_states(model.model.vision_tower, pixels, self.config)
        if self.config.vision_feature_select_strategy == "default":
            chosen = [state[:, 1:] for state in chosen]
        features: torch.Tensor = model.model.multi_modal_projector(torch.cat(chosen, dim=-1))
        return features

    def runs(self, parameter: str) -> bool:
        """All but the tower's last layers (`tower_runs`)."""
        return self.part_of(parameter) != "vision" or tower_runs(parameter, self.config)

    def vision_tokens(self, images: ImageBatch) -> int:
        """Patches of each image, and CLIP's class token."""
        return self._tower_tokens * len(images)

    def decoder(self, model: Any) -> nn.Module:
        """The LLaMA-type decoder."""
        decoder: nn.Module = model.model.language_model
        return decoder

    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:
        """With the steps of the training; filter, rescaling and normalization are the base's in every mode."""
        if image_mode == "export" and processor_file(self.folder)[0] is not None:
            return settings
        mode = "crop" if image_mode == "export" else image_mode
        return own_normalization(settings) | settings | complete_settings(mode, self._side)
