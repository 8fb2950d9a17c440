"""Shards to micro-batches: render, decode, expand the image, pad on the right.

    positions ──ExampleSet──▶ Example (ids, supervision, uint8 pixels) ──collate──▶ Batch

`ExampleSet[position]` is a pure function of the shards and the chat settings, so worker processes change nothing but
speed. Shapes are those of `train.model`.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from configs.errors import DataError
from configs.schema import ChatConfig, TrainConfig
from data_prep.images import decode_rgb
from data_prep.sample import Sample
from data_prep.shards import ShardSet
from train import signals
from train.chat import IGNORED, ChatRenderer, Rendered, UnsupervisedError, expand_image
from train.epochs import PADDING, Mask, Mixture
from train.model import Batch
from train.packing import StepOrder
from train.pixels import PixelProcessor

E = TypeVar("E")
B = TypeVar("B")


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

    def record(self, position: int) -> Sample:
        """The sample at a position without its image: only the record is read.

        Raises `DataError` that names shard and sample if it is not the record that was written.
        """
        source, index = self.locate(position)
        shards = self.sets[source]
        row = shards.index[index]
        shard = shards.folder / shards.manifest.shards[int(row["shard"])].name
        try:
            with shard.open("rb", buffering=0) as file:
                text = os.pread(file.fileno(), int(row["json_size"]), int(row["json_offset"]))
            sample = Sample.from_json(text)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{shards.where(index)} cannot be read: {error}; run data_prep.verify") from error
        return sample

    def mixture(self, train: TrainConfig) -> Mixture:
        """What an epoch of these sources is."""
        return Mixture(
            shards=tuple(tuple(entry.samples for entry in shards.manifest.shards) for shards in self.sets),
            weights=tuple(float(train.weights.get(name, 1.0)) for name in self.names),
            block=train.shuffle_block,
            kept=self.with_image() if train.text_only == "drop" else None,
        )

    def with_image(self) -> Mask:
        """Of every position whether the sample has an image."""
        return np.concatenate([shards.index["extension"] > 0 for shards in self.sets])

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
        expanded = self.tokens(sample, has_image=sample.image is not None)
        try:
            pixels = None if sample.image is None else self.pixels(decode_rgb(_image_bytes(sample)))
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return Example(sample.id, source, expanded.input_ids, expanded.supervised, pixels)

    def tokens(self, sample: Sample, *, has_image: bool) -> Rendered:
        """The ids of a sample, its image expanded, without looking at the image. Raises as `encode` does."""
        try:
            rendered = self.renderer.render(sample.turns, self.chat.max_length)
            if rendered.images != has_image:
                raise DataError(f"{rendered.images} <image> placeholders, {int(has_image)} images")
            expanded = expand_image(rendered, self.image_tokens, self.image_token_id, self.chat.max_length)
            if self.chat.unsupervised == "error" and not any(expanded.supervised[1:]):
                raise UnsupervisedError(
                    f"no token is supervised within chat.max_length {self.chat.max_length}; "
                    "raise it, or set chat.unsupervised: drop"
                )
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return expanded

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
    batch.owners[row, span] = number
    batch.labels[row, span] = torch.where(torch.tensor(example.supervised), ids, torch.tensor(IGNORED))
    batch.labels[row, start] = IGNORED  # nothing predicts the first token


def _blank(examples: Sequence[Example], shape: tuple[int, int]) -> Batch:
    """A batch of these examples' images, sources and ids without any token."""
    pixels = [torch.from_numpy(example.pixels) for example in examples if example.pixels is not None]
    return Batch(
        input_ids=torch.zeros(shape, dtype=torch.long),
        attention_mask=torch.zeros(shape, dtype=torch.long),
        labels=torch.full(shape, IGNORED),
        weights=torch.zeros(shape),
        owners=torch.full(shape, -1),
        pixels=torch.stack(pixels) if pixels else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        sources=torch.tensor([example.source for example in examples]),
        ids=tuple(example.id for example in examples),
    )


def read_steps(
    order: StepOrder, dataset: Dataset[E], collate: Callable[[list[E]], B], start: int, rank: int, workers: int
) -> Iterator[tuple[int, list[B]]]:
    """(epoch, micro-batches) of `rank` for every step from data step `start` on, read by `workers` processes.

    Training reads examples this way and `train.order` ids: one code path, so what the one prints the other reads.
    """
    sampler = _MicroBatchSampler(order, start, rank)
    ahead = 2 * order.dealing.plan.accumulation
    batches = iter(
        DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=max(2, ahead) if workers else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals_to_the_rank,
        )
    )
    while True:
        first = next(batches)  # the sampler has noted the step's epoch and size by now
        epoch, count = sampler.steps.popleft()
        yield epoch, [first, *itertools.islice(batches, count - 1)]


def _leave_signals_to_the_rank(worker: int) -> None:  # noqa: ARG001 - the signature is torch's
    """SLURM sends SIGTERM to every process of a job; a worker that died of it would take the checkpoint along."""
    signals.ignore()


@dataclass
class _MicroBatchSampler:
    """The micro-batches of all steps in a row: what torch's DataLoader calls a batch sampler."""

    order: StepOrder
    start: int
    rank: int
    steps: deque[tuple[int, int]] = field(default_factory=deque)  # (epoch, micro-batches) of steps not yet delivered

    def __iter__(self) -> Iterator[list[int]]:
        for epoch, micro_batches in self.order.positions(self.start, self.rank):
            self.steps.append((epoch, len(micro_batches)))
            yield from micro_batches


@dataclass(frozen=True)
class StepData:
    """One optimizer step of one rank: where it stands and its micro-batches."""

    epoch: int
    batches: list[Batch]


@dataclass(frozen=True)
class TrainingBatches:
    """The micro-batches of one rank, step after step, from any data step on."""

    examples: ExampleSet
    order: StepOrder

    def steps(self, start: int, rank: int, workers: int) -> Iterator[StepData]:
        """Decoded steps; `workers` processes decode ahead without changing the order."""
        join = pack if self.order.dealing.batching == "packed" else collate
        for epoch, batches in read_steps(self.order, self.examples, join, start, rank, workers):
            yield StepData(epoch, batches)
