"""The interface of a model family: all differences between families. No other code asks for the family.

A family is one class in a separate file, bound to the config and the folder of one model, and one line in
`train.models.registry`. The rest of the program sees token ids, an opaque `ImageBatch`, embeddings and hidden states.
Tensor shapes: `B` rows, `T` tokens a row, `N` images, `P` tokens of an image (it may differ from image to image), `H`
hidden size of the language model, `V` vocabulary.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerBase

from configs.errors import ConfigError
from train.chat.folder_template import FolderRenderer
from train.chat.render import ChatRenderer
from train.chat.renderer import Renderer
from train.chat.templates import FOLDER, PromptStyle
from train.models.embedded import Embedded
from train.models.images import ImageBatch, ImageInput, ImageProcessor, Size
from train.models.pixels import normalize_pixels
from train.models.processor_settings import CLIP, Normalization, read_image_settings

PARTS = ("projector", "language", "vision")
PROBE = "linear_probe"
"""Name in the model of the linear probe that is trained with it, which no family has (`train.models.linear_probe`)."""
LLAMA_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA_TARGETS = {"opt": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")}
"""Linear layers of decoders that do not name them as LLaMA does, by `model_type` of the language model."""


class Family(ABC):
    """What evaluation and export need to know of a model."""

    name: ClassVar[str]
    """Usual name, such as LLaVA-1.5."""
    model_type: ClassVar[str]
    """`model_type` in config.json."""
    parts: ClassVar[dict[str, tuple[str, ...]]]
    """Each of `PARTS` to the prefixes of its parameter names."""
    chat_templates: ClassVar[tuple[str, ...]]
    """Names of the chat templates (`train.chat.templates`) that the model understands."""
    config_sections: ClassVar[tuple[str, ...]] = ()
    """Sections that config.json must have: for one that is missing transformers takes the sizes of another model."""
    flash_attention: ClassVar[bool] = True
    """Whether transformers runs it with flash attention."""
    compiled_vision: ClassVar[bool] = True
    """Whether the vision tower's layers can be compiled: not if they loop over images or windows of any number."""
    image_token: ClassVar[str] = "<image>"
    """How the tokenizer spells the image token."""
    any_resolution: ClassVar[bool] = False
    """Whether images keep their shape and about their size, between a least and a most number of pixels."""
    pixel_limits: tuple[int | None, int | None] = (None, None)
    """Least and most pixels of an image, where they are others than the folder's; set by `with_pixels`."""
    several_positions: ClassVar[bool] = False
    """Whether a token has several positions (`positions`)."""
    reads_question: ClassVar[bool] = False
    """Whether the image features depend on the question (a Q-Former with text input)."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Sub-folders of the model's folder that an export needs, such as a second tokenizer."""
    model_class: ClassVar[Any] = AutoModelForImageTextToText
    """transformers' class of the model: loads the folder, and what an export is loaded with."""

    def __init__(self, config: Any, folder: Path | None = None):
        """`config` is the model's transformers config, `folder` has its tokenizer and image processor."""
        self.config = config
        self.folder = folder

    @classmethod
    def unsupported_reason(cls, config: dict[str, Any]) -> str | None:  # noqa: ARG003 - for those that refuse some
        """Why a model with this config.json is not supported, or None."""
        return None

    # Text

    @abstractmethod
    def prompt_style(self, choice: str) -> PromptStyle:
        """How the model is prompted: `family`, as it was trained; `official`, as the paper's authors do it."""

    def renderer(self, tokenizer: PreTrainedTokenizerBase, template: str, system_prompt: str) -> Renderer:
        """What turns conversations into ids of `tokenizer` by the chat template of that name.

        Raises `ConfigError` for a template that the family does not have, or one that does not fit the tokenizer.
        """
        if template not in self.chat_templates:
            raise ConfigError(
                f"the chat template {template} is none of {self.name}'s: {', '.join(self.chat_templates)}"
            )
        if template != FOLDER:
            return ChatRenderer(tokenizer, template, system_prompt, self.end_token)
        image = str(tokenizer.convert_ids_to_tokens(self.image_token_id))
        return FolderRenderer(tokenizer, system_prompt, self.end_token, image)

    @property
    def end_token(self) -> int | None:
        """Id of the token that ends an answer; None: the tokenizer's end token."""
        return None

    @property
    def text_config(self) -> Any:
        """The language model's config."""
        return self.config.get_text_config()

    @property
    def max_positions(self) -> int | None:
        """Longest sequence in tokens that the language model takes, where it has a limit."""
        limit = getattr(self.text_config, "max_position_embeddings", None)
        return None if limit is None else int(limit)

    def check_question(self, question: str) -> None:  # noqa: B027 - for families that read the question
        """Raise `DataError` if the image features cannot depend on this text, as it is too long."""

    # Images

    @property
    def image_token_id(self) -> int:
        """The token id whose positions hold image features."""
        return int(self.config.image_token_id)

    @property
    def fixed_image_tokens(self) -> int | None:
        """P where it is the same for every image; None where it depends on the image's size."""
        return None

    @abstractmethod
    def image_tokens(self, size: Size | None = None) -> int:
        """P of an image of `size`. Raises `ConfigError` without a size where P depends on it."""

    def image_ids(self, size: Size | None = None) -> Sequence[int]:
        """The ids that an image of `size` becomes: its P image tokens, and those of any text between and around them.

        Raises as `image_tokens`.
        """
        return [self.image_token_id] * self.image_tokens(size)

    def with_pixels(self, least: int | None, most: int | None) -> Self:
        """This family with other limits of an image's pixels than the folder's; None keeps the folder's.

        Raises `ConfigError` for a family whose images have a size of its own.
        """
        if (least, most) == (None, None):
            return self
        if not self.any_resolution:
            raise ConfigError(
                f"min_pixels and max_pixels are for Qwen's models, whose images keep their size; {self.name} resizes "
                "every image to its own: set both to null"
            )
        other = type(self)(self.config, self.folder)
        other.pixel_limits = (least, most)
        return other

    @property
    def image_token_key(self) -> int | str:
        """Changes whenever `image_ids` may give another number: part of the name of files with token counts."""
        if self.fixed_image_tokens is not None:
            return self.fixed_image_tokens
        files = [] if self.folder is None else sorted(self.folder.glob("*processor_config.json"))
        settings = self.config.to_json_string() + "".join(file.read_text(encoding="utf-8-sig") for file in files)
        settings += f"{self.pixel_limits}" if self.any_resolution else ""
        return hashlib.sha256(settings.encode()).hexdigest()

    @abstractmethod
    def image_processor(self, mode: str = "export", size: int | None = None, *, fast: bool = False) -> ImageProcessor:
        """What turns images into the model's input; `mode` is `chat.image_mode` or `protocol.image_mode`.

        `size` is another side length in pixels than the model's own; `fast` is `chat.pixels: fast`. Raises
        `ConfigError` for a mode or size that the family does not have.
        """

    @abstractmethod
    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """Join images, in the order in which they occur in the token ids."""

    @abstractmethod
    def encode_images(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> torch.Tensor:
        """(sum of P, H): features of all images in a row, in the language model's space; pixels get `dtype`."""

    @cached_property
    def _normalization(self) -> Normalization:
        settings = read_image_settings(self.folder, CLIP)
        return Normalization() if settings is None else settings.normalization

    def normalized(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(…, 3, S, S) uint8 to normalized pixels of `dtype`, rescaled and normalized as the folder says."""
        return normalize_pixels(pixels, self._normalization, dtype)

    def place_images(self, embeddings: torch.Tensor, ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, T, H) token embeddings of `ids` (B, T) with `features` (sum of P, H) at the image positions."""
        positions = (ids == self.image_token_id).unsqueeze(-1).expand_as(embeddings)
        return embeddings.masked_scatter(positions, features.to(embeddings.dtype))

    def encode_layers(self, model: Any, images: ImageBatch, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """`encode_images`, and for each of the first decoder layers what is added to its result: (sum of P, H) each."""
        return (self.encode_images(model, images, dtype),)

    def embed(self, model: Any, ids: torch.Tensor, images: ImageBatch) -> Embedded:
        """What the decoder takes for `ids` (B, T) and their images, rows in order."""
        embeddings: torch.Tensor = self.word_embeddings(model)(ids)
        if not len(images):
            return Embedded(embeddings)
        features, *added = self.encode_layers(model, images.to(ids.device), embeddings.dtype)
        places = ids == self.image_token_id if added else None
        return Embedded(self.place_images(embeddings, ids, features), places, tuple(added))

    def positions(self, ids: torch.Tensor, sequence_ids: torch.Tensor, images: ImageBatch) -> torch.Tensor | None:  # noqa: ARG002
        """(axes, B, T) positions of tokens that have several (M-RoPE); None where a conversation counts 0, 1, 2, …

        `sequence_ids` (B, T) numbers the conversations, -1 on padding. The positions of each conversation begin at 0.
        """
        return None

    # Modules

    @abstractmethod
    def decoder(self, model: Any) -> nn.Module:
        """The language model without its head: takes `inputs_embeds`, gives hidden states."""

    def head(self, model: Any) -> nn.Module:
        """Hidden states to logits (V)."""
        head: nn.Module = model.get_output_embeddings()
        return head

    def word_embeddings(self, model: Any) -> nn.Module:
        """Token ids to embeddings (H)."""
        embeddings: nn.Module = model.get_input_embeddings()
        return embeddings

    def generator(self, model: Any) -> Any:
        """The module whose `generate` takes `inputs_embeds`."""
        return model

    def part_of(self, parameter: str) -> str:
        """The part that the parameter of this name belongs to, `probe`, or `other`."""
        if parameter.startswith(f"{PROBE}."):
            return "probe"
        return next((part for part, prefixes in self.parts.items() if parameter.startswith(prefixes)), "other")

    def runs(self, parameter: str) -> bool:  # noqa: ARG002
        """Whether the parameter of this name has an effect: not in a layer whose result nothing reads."""
        return True

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """Linear layers of the language model that LoRA adapts by default, by the last part of their name."""
        return LORA_TARGETS.get(str(self.text_config.model_type), LLAMA_LINEAR)

    def language_weight(self, name: str) -> str:
        """Name in this model of the weight that is called `name` in the language model alone (`model.layers.0…`)."""
        return name.replace("model.", self.parts["language"][0], 1) if name.startswith("model.") else name
