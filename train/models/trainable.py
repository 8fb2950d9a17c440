"""What training needs of a model family beyond `train.models.types.Family`. Shapes are named as there."""

from abc import abstractmethod
from typing import Any, Self

import torch

from train.models.batch import Batch
from train.models.embedded import Embedded
from train.models.images import ImageBatch
from train.models.types import Family


class TrainableFamily(Family):
    """A family that can be trained."""

    @abstractmethod
    def dummy_images(self) -> ImageBatch:
        """One blank image, for a micro-batch without any: all ranks run the same modules."""

    @abstractmethod
    def vision_tokens(self, images: ImageBatch) -> int:
        """Tokens that the vision tower processes for `images`, to count FLOPs."""

    def take_image_size(self, model: Any, size: int | None, dtype: torch.dtype) -> Self:  # noqa: ARG002
        """This family with `size` pixels a side as the own size of `model`, whose weights are changed in place.

        For an export: they become what training in `dtype` with `chat.image_size` made of them in each step. None, or
        the own size, changes nothing.
        """
        return self

    @abstractmethod
    def exported_processor(self, settings: dict[str, Any], image_mode: str) -> dict[str, Any]:
        """The base's image-processor `settings`, changed to what training with `image_mode` saw."""

    def decode(
        self,
        model: Any,
        embedded: Embedded,
        batch: Batch,
        attention: dict[str, torch.Tensor | None],
    ) -> torch.Tensor:
        """(B, T, H): the decoder's last hidden states; `attention` is from `batch.attention_arguments`.

        Where tokens have several positions, transformers takes those of the text before them, by which its flash
        attention separates packed conversations.
        """
        positions = batch.positions
        if positions is not None and (text := attention.get("position_ids")) is not None:
            positions = torch.cat([text[None], positions])
        if positions is not None:
            attention = attention | {"position_ids": positions}
        states: torch.Tensor = self.decoder(model)(use_cache=False, **embedded.arguments, **attention).last_hidden_state
        return states

    def attention_kernel(self, model: Any) -> str:
        """Name of the decoder's attention kernel."""
        decoder: Any = self.decoder(model)
        return str(decoder.config._attn_implementation)
