"""Shards to micro-batches: render, decode, expand the image, pad on the right.

    positions ──ExampleSet──▶ Example (ids, supervision, uint8 pixels) ──collate──▶ Batch

`ExampleSet[position]` is a pure function of the shards and the chat settings, so worker processes change nothing but
speed. Shapes are those of `train.models.loading`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from configs.errors import DataError
from configs.model import ChatConfig
from data_prep.images import decode_rgb
from data_prep.sample import Sample, UnreadableSample
from train.chat.conversation import IGNORE_INDEX, TokenizedConversation, expand_image
from train.chat.render import ChatRenderer
from train.data.loader import read_steps
from train.data.order import PADDING
from train.data.packing import StepOrder
from train.data.sources import PositionSet, SourceSet
from train.models.loading import Batch
from train.models.pixels import PixelProcessor


class NoTargetTokensError(DataError):
    """A training sample in which no token is supervised: it would teach nothing."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation ready for the model. A padding example has one token, no source (-1) and nothing supervised.

    `unreadable` is the sample that could not be read, in a padding example that takes its place.
    """

    id: str
    source: int
    input_ids: list[int]
    supervised: list[bool]
    pixels: "np.ndarray[Any, np.dtype[np.uint8]] | None"
    unreadable: UnreadableSample | None = None


@dataclass(frozen=True)
class Encoder:
    """Everything that turns a sample into an example, for one model."""

    renderer: ChatRenderer
    pixels: PixelProcessor
    image_tokens: int
    image_token_id: int
    chat: ChatConfig

    def encode(self, sample: Sample, source: int) -> Example:
        """Raises `DataError` (or `NoTargetTokensError`) that names the sample if it cannot be trained on."""
        expanded = self.tokens(sample, has_image=sample.image is not None)
        try:
            pixels = None if sample.image is None else self.pixels(decode_rgb(_image_bytes(sample)))
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return Example(sample.id, source, expanded.input_ids, expanded.supervised, pixels)

    def tokens(self, sample: Sample, *, has_image: bool) -> TokenizedConversation:
        """The ids of a sample, its image expanded, without looking at the image. Raises as `encode` does."""
        try:
            rendered = self.renderer.render(sample.turns, self.chat.max_length)
            if rendered.images != has_image:
                raise DataError(f"{rendered.images} <image> placeholders, {int(has_image)} images")
            expanded = expand_image(rendered, self.image_tokens, self.image_token_id, self.chat.max_length)
            if self.chat.no_target_tokens == "error" and not any(expanded.supervised[1:]):
                raise NoTargetTokensError(
                    f"no token is supervised within chat.max_length {self.chat.max_length}; "
                    "raise it, or set chat.no_target_tokens: drop"
                )
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return expanded

    def padding(self, unreadable: UnreadableSample | None = None) -> Example:
        """An example whose loss weighs 0."""
        return Example("", -1, [self.renderer.bos], [False], None, unreadable)


def _image_bytes(sample: Sample) -> bytes:
    assert isinstance(sample.image, bytes), "samples read from shards carry their image as bytes"
    return sample.image


class ExampleSet(PositionSet[Example]):
    """Random access to encoded examples by position."""

    def __init__(self, sources: SourceSet, encoder: Encoder, unreadable: str = "stop"):
        """`unreadable` is `train.unreadable`."""
        super().__init__(sources)
        self.encoder = encoder
        self.unreadable = unreadable

    def __getitem__(self, position: int) -> Example:
        """The example at `position`, or one that weighs nothing for `PADDING`.

        Raises `DataError` that names a sample whose bytes or image have become bad since the build, unless they are to
        be passed over.
        """
        if position == PADDING:
            return self.encoder.padding()
        source, index = self.sources.locate(position)
        try:
            return self.encoder.encode(self.sources.sample(position), source)
        except NoTargetTokensError:
            raise
        except (DataError, OSError) as error:
            where = "" if isinstance(error, DataError) else f"{self.sources.sets[source].where(index)}: "
            if self.unreadable == "stop":
                raise DataError(f"{where}{error}; repair it, or pass it over with train.unreadable: skip") from error
            return self.encoder.padding(
                UnreadableSample(self.sources.names[source], self._id(position), f"{where}{error}")
            )

    def _id(self, position: int) -> str:
        """The sample's id; its number in the source where the record itself is damaged."""
        try:
            return self.sources.record(position).id
        except (DataError, OSError):
            return f"number {self.sources.locate(position)[1]}"


def collate(examples: Sequence[Example]) -> Batch:
    """Pad examples on the right to the longest. Weights are 0 until `train.loss.weigh` sets them."""
    width = max(len(example.input_ids) for example in examples)
    batch = _blank(examples, (len(examples), width))
    for row, example in enumerate(examples):
        _write(batch, row, 0, row, example)
    return batch


def pack(examples: Sequence[Example]) -> Batch:
    """Lay examples end to end in one row; nothing is padded."""
    batch = _blank(examples, (1, sum(len(example.input_ids) for example in examples)))
    batch.packed = True
    start = 0
    for number, example in enumerate(examples):
        _write(batch, 0, start, number, example)
        start += len(example.input_ids)
    return batch


def _write(batch: Batch, row: int, start: int, number: int, example: Example) -> None:
    """Put example `number` of the batch into its row, from token `start` on."""
    ids = torch.tensor(example.input_ids)
    span = slice(start, start + len(ids))
    batch.input_ids[row, span] = ids
    batch.attention_mask[row, span] = 1
    batch.sequence_ids[row, span] = number
    batch.labels[row, span] = torch.where(torch.tensor(example.supervised), ids, torch.tensor(IGNORE_INDEX))
    batch.labels[row, start] = IGNORE_INDEX  # nothing predicts the first token


def _blank(examples: Sequence[Example], shape: tuple[int, int]) -> Batch:
    """A batch of these examples' images, sources and ids without any token."""
    pixels = [torch.from_numpy(example.pixels) for example in examples if example.pixels is not None]
    return Batch(
        input_ids=torch.zeros(shape, dtype=torch.long),
        attention_mask=torch.zeros(shape, dtype=torch.long),
        labels=torch.full(shape, IGNORE_INDEX),
        weights=torch.zeros(shape),
        sequence_ids=torch.full(shape, -1),
        pixels=torch.stack(pixels) if pixels else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        sources=torch.tensor([example.source for example in examples]),
        ids=tuple(example.id for example in examples),
        unreadable=tuple(example.unreadable for example in examples if example.unreadable is not None),
    )


@dataclass(frozen=True)
class TrainingBatches:
    """The micro-batches of one rank, step after step, from any data step on."""

    examples: ExampleSet
    order: StepOrder

    def steps(self, start: int, rank: int, workers: int) -> Iterator[list[Batch]]:
        """Decoded steps; `workers` processes decode ahead without changing the order."""
        join = pack if self.order.partitioner.batching == "packed" else collate
        return read_steps(self.order, self.examples, join, start, rank, workers)
