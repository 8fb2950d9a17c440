"""Shards to micro-batches: render, decode, expand the image, pad on the right.

    positions ──ExampleSet──▶ Example (ids, supervision, uint8 pixels) ──collate──▶ Batch

`ExampleSet[position]` is a pure function of the shards and the chat settings, so worker processes change nothing but
speed. Shapes are those of `train.model`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from configs.errors import DataError
from configs.schema import ChatConfig
from data_prep.images import decode_rgb
from data_prep.sample import Sample
from data_prep.shards import ShardSet
from train.chat import IGNORED, ChatRenderer, UnsupervisedError, expand_image
from train.model import Batch
from train.order import PADDING, data_steps, rank_share
from train.pixels import PixelProcessor
from train.schedule import BatchPlan


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation ready for the model. A padding example has one token, no source (-1) and nothing supervised."""

    id: str
    source: int
    input_ids: list[int]
    supervised: list[bool]
    pixels: "np.ndarray[Any, np.dtype[np.uint8]] | None"


class SourceSet:
    """Several shard sets in a row: position 0 is the first sample of the first source."""

    def __init__(self, shards_root: Path, names: Sequence[str]):
        """Open the shard set of every source. Raises `DataError` that names the build command if one is missing."""
        self.names = tuple(names)
        self.sets = [ShardSet.open(shards_root / name) for name in names]
        self.sizes = tuple(len(shards) for shards in self.sets)
        self.starts = np.cumsum((0, *self.sizes))

    def __len__(self) -> int:
        """Samples of all sources."""
        return int(self.starts[-1])

    def locate(self, position: int) -> tuple[int, int]:
        """(source number, index within it) of a position."""
        source = int(np.searchsorted(self.starts, position, side="right")) - 1
        return source, position - int(self.starts[source])

    def sample(self, position: int) -> Sample:
        """The sample at a position."""
        source, index = self.locate(position)
        return self.sets[source].sample(index)

    def fingerprints(self) -> dict[str, str]:
        """Source name to the fingerprint of its data."""
        return {name: shards.fingerprint for name, shards in zip(self.names, self.sets, strict=True)}


@dataclass(frozen=True)
class Encoder:
    """Everything that turns a sample into an example, for one model."""

    renderer: ChatRenderer
    pixels: PixelProcessor
    image_tokens: int
    image_token_id: int
    chat: ChatConfig

    def encode(self, sample: Sample, source: int) -> Example:
        """Raises `DataError` (or `UnsupervisedError`) that names the sample if it cannot be trained on."""
        try:
            rendered = self.renderer.render(sample.turns, self.chat.max_length)
            if rendered.images != (0 if sample.image is None else 1):
                raise DataError(f"{rendered.images} <image> placeholders, {0 if sample.image is None else 1} images")
            expanded = expand_image(rendered, self.image_tokens, self.image_token_id, self.chat.max_length)
            if self.chat.unsupervised == "error" and not any(expanded.supervised[1:]):
                raise UnsupervisedError(
                    f"no token is supervised within chat.max_length {self.chat.max_length}; "
                    "raise it, or set chat.unsupervised: drop"
                )
            pixels = None if sample.image is None else self.pixels(decode_rgb(_image_bytes(sample)))
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return Example(sample.id, source, expanded.input_ids, expanded.supervised, pixels)

    def padding(self) -> Example:
        """An example that weighs nothing."""
        return Example("", -1, [self.renderer.bos], [False], None)


def _image_bytes(sample: Sample) -> bytes:
    assert isinstance(sample.image, bytes), "samples read from shards carry their image as bytes"
    return sample.image


class ExampleSet(Dataset[Example]):
    """Random access to encoded examples by position."""

    def __init__(self, sources: SourceSet, encoder: Encoder):
        """Nothing is read before an example is asked for."""
        self.sources = sources
        self.encoder = encoder

    def __getitem__(self, position: int) -> Example:
        """The example at `position`, or one that weighs nothing for `PADDING`."""
        if position == PADDING:
            return self.encoder.padding()
        source, _ = self.sources.locate(position)
        return self.encoder.encode(self.sources.sample(position), source)


def collate(examples: Sequence[Example]) -> Batch:
    """Pad examples on the right to the longest. Weights are 0 until `train.loss.weigh` sets them."""
    width = max(len(example.input_ids) for example in examples)
    shape = (len(examples), width)
    input_ids, attention = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.input_ids)
        input_ids[row, : len(ids)] = ids
        attention[row, : len(ids)] = 1
        labels[row, : len(ids)] = torch.where(torch.tensor(example.supervised), ids, torch.tensor(IGNORED))
    pixels = [torch.from_numpy(example.pixels) for example in examples if example.pixels is not None]
    return Batch(
        input_ids=input_ids,
        attention_mask=attention,
        labels=labels,
        weights=torch.zeros(shape),
        pixels=torch.stack(pixels) if pixels else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        sources=torch.tensor([example.source for example in examples]),
        ids=tuple(example.id for example in examples),
    )


@dataclass(frozen=True)
class StepData:
    """One optimizer step of one rank: where it stands and its micro-batches."""

    epoch: int
    batches: list[Batch]


class TrainingBatches:
    """The micro-batches of one rank, step after step, from any data step on."""

    def __init__(self, examples: ExampleSet, plan: BatchPlan, seed: int, steps_per_epoch: int):
        """`steps_per_epoch` fixes where one epoch's order ends and the next begins."""
        self.examples = examples
        self.plan = plan
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch

    def positions(self, start: int, rank: int) -> Iterator[tuple[int, list[list[int]]]]:
        """(epoch, micro-batches as positions) for every step from data step `start` on."""
        for epoch, step, order in data_steps(self.examples.sources.sizes, self.seed, self.steps_per_epoch, start):
            yield epoch, rank_share(order.step(step, self.plan.global_batch), rank, self.plan)

    def steps(self, start: int, rank: int, workers: int) -> Iterator[StepData]:
        """Decoded steps; `workers` processes decode ahead without changing the order."""
        loader = DataLoader(
            self.examples,
            batch_sampler=_Flattened(self, start, rank),
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=max(2, 2 * self.plan.accumulation) if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        batches = iter(loader)
        for data_step in itertools.count(start):
            epoch = data_step // self.steps_per_epoch
            yield StepData(epoch, [next(batches) for _ in range(self.plan.accumulation)])


@dataclass(frozen=True)
class _Flattened:
    """The micro-batches of all steps in a row: what torch's DataLoader calls a batch sampler."""

    batches: TrainingBatches
    start: int
    rank: int

    def __iter__(self) -> Iterator[list[int]]:
        for _, micro_batches in self.batches.positions(self.start, self.rank):
            yield from micro_batches
