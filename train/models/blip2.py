"""BLIP-2 and InstructBLIP: a Q-Former turns the image into a few tokens, which stand before the text.

(Salesforce/blip2-opt-2.7b, Salesforce/instructblip-vicuna-7b, -13b; the variants with T5 are refused by name.)
Tensor shapes: `N` images, `Q` query tokens, `L` tokens of the longest instruction, `S` pixels a side, `H` hidden size.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from configs.errors import ConfigError
from train.chat.templates import PromptStyle
from train.models.llava_next import only_own_pixels
from train.models.pixels import ImageBatch, PixelProcessor, squashed_pixels
from train.models.tiles import Size

QFORMER_TOKENIZER = "qformer_tokenizer"  # the sub-folder of transformers' `InstructBlipProcessor`


class Blip2Family:
    """BLIP-2 with a decoder such as OPT (arXiv 2301.12597)."""

    name = "BLIP-2"
    model_type = "blip-2"
    parts = {  # noqa: RUF012 - a constant that implements the protocol's attribute
        "projector": ("language_projection.", "qformer.", "query_tokens"),
        "language": ("language_model.",),
        "vision": ("vision_model.",),
    }
    flash_attention = False  # its Q-Former has no such kernel in transformers
    chat_templates: tuple[str, ...] = ("question", "plain")

    def refuse(self, config: dict[str, Any]) -> str | None:
        """Encoder-decoders are scored and asked in another way; without an image token nothing marks the image."""
        if "t5" in (language := str(config.get("text_config", {}).get("model_type", "opt"))):
            return f"with the encoder-decoder {language}; only those with a decoder (OPT, Vicuna) work"
        if config.get("image_token_index") is None and config.get("image_token_id") is None:
            return "without image_token_index in its config.json; take a revision that has it"
        return None

    def prompt_style(self, choice: str, config: Any) -> PromptStyle:  # noqa: ARG002
        """BLIP-2's own question form; the authors score class names after "A", and reason in the question."""
        return self.official if choice == "official" else self.own

    own = PromptStyle("question")
    official = PromptStyle(
        "question", class_prefix="A", prefix_in_question=True, answer_delimiter="Answer:", class_ids="misaligned"
    )

    def end_token(self, config: Any) -> int | None:
        """As the language model's config says: BLIP-2 with OPT ends an answer with a line break, not with OPT's end."""
        end = config.text_config.eos_token_id
        return end if isinstance(end, int) else None

    def instruction_tokenizer(self, folder: Path) -> PreTrainedTokenizerBase | None:  # noqa: ARG002
        """Its Q-Former sees the image alone."""
        return None

    def image_tokens(self, config: Any, size: Size | None = None) -> int:  # noqa: ARG002
        """Q, whatever the image."""
        return int(config.num_query_tokens)

    def image_size(self, config: Any) -> int:
        """Side of the tower's input in pixels."""
        return int(config.vision_config.image_size)

    def pixel_processor(self, folder: Path, config: Any, mode: str) -> PixelProcessor:
        """Squashed to the tower's square; `export` is the only mode."""
        only_own_pixels(self.name, mode)
        return squashed_pixels(folder, self.image_size(config))

    def resized(self, pixels: PixelProcessor, config: Any, size: int) -> PixelProcessor:
        """The tower's position embeddings are interpolated (`embed`); the Q-Former makes as many tokens of any size."""
        patch = int(config.vision_config.patch_size)
        if size % patch:
            raise ConfigError(f"image_size is {size}; {self.name} cuts images into patches of {patch} pixels a side")
        return replace(pixels, size=size)

    def _interpolates(self, model: Any, images: ImageBatch) -> bool:
        return bool(images.pixels.shape[-1] != self.image_size(model.config))

    def embed(self, model: Any, images: ImageBatch) -> torch.Tensor:
        """transformers' own (N, Q, H), in a row."""
        features: torch.Tensor = model.get_image_features(
            images.pixels, interpolate_pos_encoding=self._interpolates(model, images), return_dict=True
        ).pooler_output
        return features.flatten(0, 1)

    def language_model(self, model: Any) -> nn.Module:
        """The decoder inside of the language model: OPT's (with its own positions), LLaMA's."""
        decoder: nn.Module = model.language_model.get_decoder()
        return decoder


class InstructBlipFamily(Blip2Family):
    """InstructBLIP: the Q-Former reads the question, too, through a BERT tokenizer of its own (arXiv 2305.06500)."""

    name = "InstructBLIP"
    model_type = "instructblip"
    own = PromptStyle("plain")  # as transformers' documentation asks it; the paper's authors ask it as they ask BLIP-2

    def instruction_tokenizer(self, folder: Path) -> PreTrainedTokenizerBase | None:
        """BERT's. Raises `ConfigError` if the folder has none."""
        place = folder / QFORMER_TOKENIZER
        if not place.is_dir():
            raise ConfigError(f"{folder} has no folder {QFORMER_TOKENIZER}, by which InstructBLIP's Q-Former reads")
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(place), trust_remote_code=False)
        return tokenizer

    def embed(self, model: Any, images: ImageBatch) -> torch.Tensor:
        """Instructions padded on the right and masked, as BERT has its positions from the left."""
        longest = max(map(len, images.instructions))
        ids = torch.zeros(len(images.instructions), longest, dtype=torch.long)  # (N, L)
        mask = torch.zeros_like(ids)
        for row, instruction in enumerate(images.instructions):
            ids[row, : len(instruction)] = torch.tensor(instruction)
            mask[row, : len(instruction)] = 1
        device = images.pixels.device
        features: torch.Tensor = model.get_image_features(
            images.pixels,
            qformer_input_ids=ids.to(device),
            qformer_attention_mask=mask.to(device),
            interpolate_pos_encoding=self._interpolates(model, images),
            return_dict=True,
        ).pooler_output
        return features.flatten(0, 1)
