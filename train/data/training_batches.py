"""The micro-batches of a training: its examples in its order, joined as `train.batching` says."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from train.data.collate import ExampleSet, collate, pack
from train.data.loader import read_steps
from train.data.packing import StepOrder
from train.models.batch import Batch


@dataclass(frozen=True)
class TrainingBatches:
    """The micro-batches of one rank, step after step, from any data step on."""

    examples: ExampleSet
    order: StepOrder

    def steps(self, start: int, rank: int, workers: int) -> Iterator[list[Batch]]:
        """Decoded steps; `workers` processes decode ahead without changing the order."""
        builder = self.examples.example_builder
        join = partial(
            pack if self.order.partitioner.batching == "packed" else collate,
            family=builder.family,
            prefix=builder.prefix,
        )
        return read_steps(self.order, self.examples, join, start, rank, workers)
