"""Questions to text: batched greedy generation with any supported model.

The tokens are those that transformers' `generate(do_sample=False)` gives for the same `input_ids` and `pixel_values`;
a test compares them. Questions of different lengths share a batch by padding on the left, with explicit positions, so
that a question's answer does not depend on its neighbours (but for the last bit of floating-point sums).

Tensor shapes: `B` questions, `T` tokens, `N` images, `P` tokens an image, `S` pixels a side, `H` hidden size,
`V` vocabulary.
"""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from configs.trained import protocol_as_trained, training_record_of_model
from data_prep.images import decode_rgb
from data_prep.sample import Turn
from eval.models.decoder_input import DecoderInput
from eval.models.greedy import Greedy, LanguageModel, Stop
from eval.models.memory import NOT_FINITE, within_memory
from eval.models.prompt_style import resolve_style
from eval.models.right_padding import generate, padded_right, padding_of
from eval.types import Answer, Failure
from train.chat.conversation import IMAGE_INDEX, TokenizedConversation, expand_image
from train.models.images import NO_IMAGES, ImageInput
from train.models.layer_parts import LayerParts
from train.models.loading import LoadedModel

LEAST_ROOM = 64  # tokens of an answer: one with less room in the model's positions is not generated
BEFORE = 4  # tokens of the prompt that an answer is decoded with, to see the blanks between the two


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question as the model takes it: token ids with the image expanded, and the image or None."""

    input_ids: list[int]
    image: ImageInput | None
    prompt_hash: str


class TextPredictor:
    """Answers questions with one model under one protocol.

    predictor = TextPredictor(load_model(...), config.protocol)
    answers = predictor.predict([predictor.prompt(turns, image_bytes)])
    """

    def __init__(self, loaded: LoadedModel, protocol: ProtocolConfig, parts: LayerParts | None = None):
        """`parts` are the kernels of decoder layers (`eval.models.kernels`), by default as transformers wrote them.

        Raises `ConfigError` if the tokenizer does not fit the chat template, or the pixel settings the model.
        """
        self.protocol = protocol = protocol_as_trained(protocol, training_record_of_model(str(loaded.folder)))
        self.model = loaded.model.eval()
        self.family = loaded.family.with_pixels(protocol.min_pixels, protocol.max_pixels)
        self.style = resolve_style(protocol, self.family)
        self.renderer = self.family.renderer(loaded.tokenizer, self.style.template, self.style.system_prompt)
        if protocol.image_order == "after":
            self.renderer.place_image_last()
        self.stated_ends = loaded.end_tokens
        self.images = self.family.image_processor(protocol.image_mode, protocol.image_size)
        self.padding = padding_of(protocol.padding_side, loaded.tokenizer, self.family)
        self.answer_prefix = self.style.answer_prefix
        self.max_new_tokens = protocol.max_new_tokens
        self.max_length = self.family.max_positions or sys.maxsize
        self.text_decoder = LanguageModel(
            self.family.decoder(self.model),
            self.family.head(self.model),
            self.family.word_embeddings(self.model),
            self.family.text_config,
            parts or LayerParts(),
        )
        self.greedy = Greedy(self.text_decoder, self.family.image_token_id)

    @property
    def ends(self) -> frozenset[int]:
        """Ids of the tokens that end an answer: the chat template's, and those that the folder states."""
        return self.stated_ends | {self.renderer.eos}

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Prompt:
        """Render, expand and decode one question.

        Raises `DataError` (or `ImageError`) if the image does not decode, a question shows more than one image or one
        that is not there, or the model's positions have no room for the question and `LEAST_ROOM` tokens of an answer.
        """
        if self.style.question_suffix and turns:
            turns = (*turns[:-1], Turn(turns[-1].speaker, f"{turns[-1].text} {self.style.question_suffix}"))
        rendered = self.renderer.render_question(turns, self.answer_prefix)
        images = rendered.count(IMAGE_INDEX)
        if images > 1 or (images and image is None):
            raise DataError(f"the question shows {images} images and the item has {0 if image is None else 1}")
        picture = decode_rgb(image) if images and image is not None else None
        image_ids = () if picture is None else self.family.image_ids((picture.height, picture.width))
        unsupervised = TokenizedConversation(rendered, [False] * len(rendered))
        ids = expand_image(unsupervised, image_ids, sys.maxsize).input_ids
        least = min(self.max_new_tokens, LEAST_ROOM)
        if len(ids) + least > self.max_length:
            raise DataError(
                f"its question of {len(ids)} tokens and an answer of {least} exceed the model's {self.max_length} "
                "positions; shorten the question (fewer protocol.candidates), or lower protocol.max_new_tokens"
            )
        prompt_hash = hashlib.sha256(json.dumps(rendered).encode()).hexdigest()[:16]
        if picture is None:
            return Prompt(ids, None, prompt_hash)
        question = self.renderer.question_text(turns, self.answer_prefix) if self.family.reads_question else ""
        return Prompt(ids, self.images(picture, question), prompt_hash)

    @torch.inference_mode()
    def predict(self, prompts: Sequence[Prompt]) -> list[Answer | Failure]:
        """Greedy answers to all prompts, generated together until each has ended or reached the limit.

        Raises `RunError` that names `batch_size` if the device has not enough memory.
        """
        start = time.monotonic()
        with within_memory(len(prompts), "questions"):
            rows = self._generate(prompts)
        seconds = (time.monotonic() - start) / max(1, len(prompts))
        return [
            Failure(NOT_FINITE) if row is None else self._answer(prompt, row, seconds)
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def _answer(self, prompt: Prompt, tokens: list[int], seconds: float) -> Answer:
        end = next((at for at, token in enumerate(tokens) if token in self.ends), None)
        kept = tokens if end is None else tokens[: end + 1]
        text = self._decoded(kept[:end]).strip()
        prefix = f"{self.answer_prefix.strip()}{self._gap(prompt, kept[:end], text)}" if self.answer_prefix else None
        return Answer(text, kept, end is not None, seconds, prefix=prefix)

    def _decoded(self, ids: list[int]) -> str:
        return str(self.renderer.tokenizer.decode(ids, skip_special_tokens=True))

    def _gap(self, prompt: Prompt, tokens: list[int], text: str) -> str:
        """The blanks between the prompt and the answer `text`: decoded by itself an answer loses its first space."""
        whole = self._decoded([*prompt.input_ids[-BEFORE:], *tokens]).rstrip()
        before = whole.removesuffix(text)
        return before[len(before.rstrip()) :] if text and before != whole else ""

    def _generate(self, prompts: Sequence[Prompt]) -> Sequence[list[int] | None]:
        """New tokens of every prompt, the end token included; None where the model's output was not finite."""
        rooms = [min(self.max_new_tokens, self.max_length - len(prompt.input_ids)) for prompt in prompts]
        if self.padding is not None:
            own = [prompt.input_ids for prompt in prompts]
            ids, mask = (tensor.to(self.model.device) for tensor in padded_right(own, self.padding))
            limits = {"max_new_tokens": min(rooms), "eos_token_id": sorted(self.ends)}
            return generate(
                self.family.generator(self.model),
                self.inputs(ids, mask, prompts).states,
                mask,
                limits | {"pad_token_id": self.padding},
            )
        rows: dict[int, list[int] | None] = {}
        for room in sorted(set(rooms), reverse=True):  # nearly always one: the others have less room than asked for
            numbers = [number for number, own_room in enumerate(rooms) if own_room == room]
            found = self._left_padded([prompts[number] for number in numbers], room)
            rows |= dict(zip(numbers, found, strict=True))
        return [rows[number] for number in range(len(prompts))]

    def _left_padded(self, prompts: Sequence[Prompt], limit: int) -> Sequence[list[int] | None]:
        own = [prompt.input_ids for prompt in prompts]
        return self.greedy.answers(own, self.inputs(*self.padded(prompts), prompts), Stop(self.ends, limit))

    def padded(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (B, T), the shorter questions filled up on the left with the end token, which the mask hides."""
        longest = max(len(prompt.input_ids) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self.renderer.eos, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.input_ids) :] = torch.tensor(prompt.input_ids)
            mask[row, longest - len(prompt.input_ids) :] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def inputs(self, ids: torch.Tensor, mask: torch.Tensor, prompts: Sequence[Prompt]) -> DecoderInput:
        """What the decoder takes for the padded `ids` (B, T) with `mask` (B, T), and the images of `prompts`."""
        shown = [prompt.image for prompt in prompts if prompt.image is not None]
        images = self.family.batch_images(shown) if shown else NO_IMAGES
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        positions = self.family.positions(ids, torch.where(mask > 0, rows, -1), images)
        return DecoderInput.of(self.family.embed(self.model, ids, images), mask, positions)
