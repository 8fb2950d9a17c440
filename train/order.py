"""Which samples form which step: a pure function of (sources, seed, epoch), never of rank or worker count.

    order = EpochOrder.of(sizes=(1_281_167, 665_298), seed=0, epoch=0)
    order.step(7, global_batch=64)                                       # 64 positions in the concatenated sources
    rank_share(order.step(7, 64), rank=1, plan=plan)                     # [[…micro-batch…], […]] of rank 1

A position numbers the samples of all sources in a row. Each epoch is a permutation, made by sorting positions by a hash
of (seed, epoch, position): arithmetic on 64-bit integers that no library version can change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.schedule import BatchPlan

PADDING = -1  # a position without a sample: it fills up the last batch and weighs nothing

Positions = np.ndarray[Any, np.dtype[np.int64]]


def keyed_hash(values: "np.ndarray[Any, np.dtype[np.uint64]]", *keys: int) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """64-bit hash of each value under the integer `keys` (the SplitMix64 finaliser, applied once per key)."""
    state = values.astype(np.uint64)
    with np.errstate(over="ignore"):
        for key in (*keys, 0):
            state = state + np.uint64(0x9E3779B97F4A7C15) * np.uint64(2 * key + 1)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


@dataclass(frozen=True)
class EpochOrder:
    """The permuted positions of one epoch."""

    positions: Positions

    @classmethod
    def of(cls, sizes: Sequence[int], seed: int, epoch: int) -> "EpochOrder":
        """The order of epoch `epoch` over sources of `sizes` samples."""
        numbers = np.arange(sum(sizes), dtype=np.uint64)
        return cls(np.argsort(keyed_hash(numbers, seed, epoch), kind="stable").astype(np.int64))

    def step(self, step: int, global_batch: int) -> list[int]:
        """Positions of the global batch of step `step` of this epoch; the last one may be filled up with `PADDING`."""
        chosen = [int(p) for p in self.positions[step * global_batch : (step + 1) * global_batch]]
        return chosen + [PADDING] * (global_batch - len(chosen))


def rank_share(batch: Sequence[int], rank: int, plan: BatchPlan) -> list[list[int]]:
    """Rank `rank`'s micro-batches of a global batch, in the order they are run.

    Sample k of the batch goes to rank k mod world, so padding at the end is spread evenly.
    """
    mine = list(batch[rank :: plan.world])
    return [mine[start : start + plan.micro_batch] for start in range(0, len(mine), plan.micro_batch)]


@dataclass(frozen=True)
class OrderState:
    """Where a run stands: saved in every checkpoint.

    `step` counts optimizer steps from the start of training; `skipped` lists [first, last) ranges of data steps that
    a roll-back jumped over, so that data step = optimizer step + the skipped ones before it.
    """

    step: int = 0
    skipped: tuple[tuple[int, int], ...] = ()

    def data_step(self, step: int) -> int:
        """The step of the data order that optimizer step `step` reads."""
        for first, last in sorted(self.skipped):
            if step >= first:
                step += last - first
        return step


def data_steps(
    sizes: Sequence[int], seed: int, steps_per_epoch: int, start: int
) -> Iterator[tuple[int, int, EpochOrder]]:
    """Endless (epoch, step in epoch, order) from data step `start` on; each epoch's order is made once."""
    epoch, first = divmod(start, steps_per_epoch)
    while True:
        order = EpochOrder.of(sizes, seed, epoch)
        for step in range(first, steps_per_epoch):
            yield epoch, step, order
        epoch, first = epoch + 1, 0
