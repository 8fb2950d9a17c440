"""InstructBLIP: BLIP-2 whose Q-Former reads the question, too, with its own BERT tokenizer (arXiv 2305.06500).

(Salesforce/instructblip-vicuna-7b, -13b; the variants with T5 are refused by name.)
Tensor shapes: `N` images, `L` tokens of the longest question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from configs.errors import ConfigError, DataError
from train.chat.templates import PromptStyle
from train.models.blip2 import Blip2Family
from train.models.images import ImageBatch, ImageInput, ImageProcessor, padded

QFORMER_TOKENIZER = "qformer_tokenizer"  # the sub-folder of transformers' `InstructBlipProcessor`
QUESTION, QUESTION_MASK = "question", "question_mask"


@dataclass(frozen=True)
class InstructionImageProcessor:
    """Images as BLIP-2's, with the question as ids for the Q-Former."""

    images: ImageProcessor
    tokenizer: PreTrainedTokenizerBase
    longest: int  # question in tokens

    @property
    def description(self) -> str:
        """As BLIP-2's."""
        return self.images.description

    def __call__(self, image: Image.Image, question: str = "") -> ImageInput:
        """`pixels` and `question` (up to L ids). Raises `DataError` if the question is too long."""
        return ImageInput({**self.images(image).arrays, QUESTION: np.array(self.ids(question))})

    def ids(self, question: str) -> list[int]:
        """The Q-Former's ids. Raises `DataError` if they are too many."""
        ids = list(self.tokenizer(question, verbose=False)["input_ids"])
        if len(ids) > self.longest:
            raise DataError(
                f"its question is too long for the Q-Former, which reads {self.longest} tokens: it has {len(ids)}; "
                "shorten it, or ask with fewer candidates"
            )
        return ids


class InstructBlipFamily(Blip2Family):
    """InstructBLIP with a decoder (Vicuna)."""

    name = "InstructBLIP"
    model_type = "instructblip"
    reads_question = True
    folders = (QFORMER_TOKENIZER,)
    # as transformers' documentation prompts it; the paper's authors prompt it as they prompt BLIP-2
    own_style = PromptStyle("plain")

    def image_processor(
        self, mode: str = "export", size: int | None = None, *, fast: bool = False
    ) -> InstructionImageProcessor:
        """As BLIP-2's. Raises `ConfigError` if the folder has no tokenizer for the Q-Former."""
        path = None if self.folder is None else self.folder / QFORMER_TOKENIZER
        if path is None or not path.is_dir():
            raise ConfigError(
                f"{self.folder} has no folder {QFORMER_TOKENIZER}, by which InstructBLIP's Q-Former reads"
            )
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
        longest = int(self.config.qformer_config.max_position_embeddings)
        return InstructionImageProcessor(super().image_processor(mode, size, fast=fast), tokenizer, longest)

    @cached_property
    def _reader(self) -> InstructionImageProcessor:
        return self.image_processor()

    def check_question(self, question: str) -> None:
        """Raise `DataError` if the Q-Former reads fewer tokens."""
        self._reader.ids(question)

    def batch_images(self, images: Sequence[ImageInput]) -> ImageBatch:
        """Questions are padded on the right and masked, as BERT counts its positions from the left."""
        batch = super().batch_images(images)
        ids, mask = padded([image.arrays[QUESTION] for image in images])
        return ImageBatch({**batch.tensors, QUESTION: ids, QUESTION_MASK: mask}, len(images))

    def dummy_images(self) -> ImageBatch:
        """A black square with a question of one token."""
        one = torch.ones(1, 1, dtype=torch.long)
        return ImageBatch({**super().dummy_images().tensors, QUESTION: one, QUESTION_MASK: one}, 1)

    def q_former_inputs(self, images: ImageBatch) -> dict[str, torch.Tensor]:
        """The questions (N, L) and their mask."""
        return {
            "qformer_input_ids": images.tensors[QUESTION],
            "qformer_attention_mask": images.tensors[QUESTION_MASK],
        }

    def runs(self, parameter: str) -> bool:
        """All but the layers of the last Q-Former layer that only change the question's tokens, which nothing reads."""
        last = f"qformer.encoder.layer.{int(self.config.qformer_config.num_hidden_layers) - 1}."
        return not parameter.startswith((f"{last}intermediate.", f"{last}output."))
