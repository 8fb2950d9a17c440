"""Held-out loss per source: the mean cross entropy over supervised tokens of samples that are never trained on."""

from collections.abc import Iterator

import numpy as np

from configs.batch_plan import BatchPlan
from train.data.collate import ExampleSet, collate
from train.data.order import PADDING, keyed_hash
from train.data.packing import rank_share
from train.distributed.world import World
from train.optimization.engine import Engine


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

    def measure(self, engine: Engine, world: World) -> dict[str, float]:
        """Source name to loss. All ranks must call it together, each runs its share of every batch."""
        losses = {}
        for name, positions in self.chosen.items():
            total, tokens = 0.0, 0
            for micro_batch in self._micro_batches(positions, world.rank):
                batch = collate([self.examples[position] for position in micro_batch])
                total += float(engine.measure(batch).double().sum())
                tokens += int(batch.supervised().sum())
            total, count = world.all_sum([total, tokens])
            losses[name] = total / max(1.0, count)
        return losses

    def _micro_batches(self, positions: list[int], rank: int) -> Iterator[list[int]]:
        """Equally many micro-batches on every rank: the last batch is filled up with padding."""
        size = self.plan.micro_batch * self.plan.world
        for start in range(0, len(positions), size):
            batch = positions[start : start + size]
            yield from rank_share(batch + [PADDING] * (size - len(batch)), rank, self.plan)
