"""Held-out loss per source: the mean cross entropy over supervised tokens of samples that are never trained on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from configs.batch_plan import BatchPlan
from data_prep.sample import UnreadableSample
from train.data.collate import ExampleSet, collate
from train.data.order import PADDING, keyed_hash
from train.data.packing import rank_micro_batches
from train.distributed.world import World
from train.models.batch import Batch


class Measurable(Protocol):
    """What a measurement needs of an engine."""

    def measure(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy sum of each conversation (B,), without gradients."""
        ...


@dataclass(frozen=True)
class HeldOutResult:
    """`losses` by source, NaN where no sample has a target; `unreadable` are this rank's unreadable samples.

    Each unreadable sample is in one result only.
    """

    losses: dict[str, float]
    unreadable: list[UnreadableSample]
    unreadable_anywhere: bool
    """Whether some rank has such a sample."""


class HeldOut:
    """The same samples at every measurement: per source, those with the smallest hash of (seed, position)."""

    def __init__(self, examples: ExampleSet, samples: int, seed: int, plan: BatchPlan):
        """Choose up to `samples` of each source."""
        self.examples = examples
        self.plan = plan
        self.chosen: dict[str, list[int]] = {}
        sources = examples.sources
        for number, name in enumerate(sources.names):
            positions = np.arange(sources.starts[number], sources.starts[number + 1], dtype=np.uint64)
            order = np.argsort(keyed_hash(positions, seed), kind="stable")[:samples]
            self.chosen[name] = [int(position) for position in positions[order]]
        self._reported: set[UnreadableSample] = set()

    def measure(self, engine: Measurable, world: World) -> HeldOutResult:
        """Measure all sources. Collective: each rank runs its share of every batch."""
        losses: dict[str, float] = {}
        unreadable: list[UnreadableSample] = []
        some = 0.0
        for name, positions in self.chosen.items():
            total, tokens, new = 0.0, 0, []
            for micro_batch in self._micro_batches(positions, world.rank):
                examples, builder = [self.examples[position] for position in micro_batch], self.examples.example_builder
                batch = collate(examples, builder.family, builder.prefix)
                total += float(engine.measure(batch).double().sum())
                tokens += int(batch.supervised().sum())
                new += [sample for sample in batch.unreadable if sample not in self._reported]
            total, count, found = world.all_sum([total, tokens, len(new)])
            losses[name] = total / count if count else math.nan
            self._reported |= set(new)
            unreadable += new
            some += found
        return HeldOutResult(losses, unreadable, some > 0)

    def _micro_batches(self, positions: list[int], rank: int) -> Iterator[list[int]]:
        """Equally many micro-batches on every rank: the last batch is filled up with padding."""
        size = self.plan.micro_batch * self.plan.world
        for start in range(0, len(positions), size):
            batch = positions[start : start + size]
            yield from rank_micro_batches(batch + [PADDING] * (size - len(batch)), rank, self.plan)
