"""Partition of a global batch into ranks and micro-batches: which rank runs which samples in one forward pass.

The samples of an optimizer step are given (`train.data.order`); nothing here adds, drops or moves one to another step.
Every rank computes the whole partition from the same numbers and takes its own part, so ranks exchange nothing.

    padded    round robin, `micro_batch` at a time, padded to the longest of them
    grouped   the same, after sorting the global batch by length: neighbours need little padding
    llava_groups  consecutive micro-batches, dealt to the ranks in turn: the epoch's order is LLaVA's
    packed    laid end to end without padding, at most `token_budget` tokens at a time; ranks get equal sums

Example of `packed` for two ranks and a budget of 10, samples named by their lengths 7 6 5 4 2 2: the longest first,
each to the rank with fewest tokens, gives 7 4 2 | 6 5 2, and each share is put into bins: [7 2] [4] | [6 2] [5].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Any

import numpy as np

from configs.batch_plan import BatchPlan
from train.data.order import PADDING, Mixture, data_steps

MicroBatches = list[list[int]]
"""The micro-batches of one rank and step, in the order they are run, as positions."""

Lengths = np.ndarray[Any, np.dtype[np.uint32]]
"""Tokens of the sample at each position."""


def rank_micro_batches(batch: Sequence[int], rank: int, plan: BatchPlan) -> MicroBatches:
    """Rank `rank`'s micro-batches of a global batch, assigned round robin.

    Sample k of the batch goes to rank k mod world, so padding at the end is spread evenly.
    """
    mine = list(batch[rank :: plan.world])
    return [mine[start : start + plan.micro_batch] for start in range(0, len(mine), plan.micro_batch)]


def consecutive_micro_batches(batch: Sequence[int], rank: int, plan: BatchPlan) -> MicroBatches:
    """Rank `rank`'s micro-batches of a global batch, cut from it in its order and dealt to the ranks in turn.

    So does accelerate 0.21 with the batches of a sampler: micro-batch k goes to rank k mod world.
    """
    starts = range(rank * plan.micro_batch, len(batch), plan.micro_batch * plan.world)
    return [list(batch[start : start + plan.micro_batch]) for start in starts]


def grouped_micro_batches(batch: Sequence[int], tokens: Sequence[int], plan: BatchPlan) -> list[MicroBatches]:
    """Every rank's micro-batches, the longest samples first, so that those run at the same time are alike.

    `tokens` are the lengths of the batch's samples. Every second round goes through the ranks backwards: no rank has
    the longer ones each time.
    """
    longest_first = sorted(range(len(batch)), key=lambda k: (-tokens[k], k))
    shares: list[MicroBatches] = [[] for _ in range(plan.world)]
    size = plan.micro_batch
    for turn, start in enumerate(range(0, len(batch), size * plan.world)):
        for index in range(plan.world):
            rank = index if turn % 2 == 0 else plan.world - 1 - index
            first = start + index * size
            shares[rank].append([batch[k] for k in longest_first[first : first + size]])
    return shares


def packed_micro_batches(batch: Sequence[int], tokens: Sequence[int], world: int, budget: int) -> list[MicroBatches]:
    """Every rank's micro-batches without padding, equally many on each: `[PADDING]` where a rank has none left.

    A sample longer than `budget` would be a separate micro-batch.
    """
    shares: list[list[int]] = [[] for _ in range(world)]  # indices into the batch, the longest first
    loads = [(0, rank) for rank in range(world)]  # a heap: fewest tokens first, then the lowest rank
    for k in sorted((k for k in range(len(batch)) if batch[k] != PADDING), key=lambda k: (-tokens[k], k)):
        load, rank = loads[0]
        heapreplace(loads, (load + tokens[k], rank))
        shares[rank].append(k)
    binned = [_bins(share, tokens, budget) for share in shares]
    count = max(map(len, binned))
    return [[[batch[k] for k in indices] for indices in bins] + [[PADDING]] * (count - len(bins)) for bins in binned]


def _bins(share: Sequence[int], tokens: Sequence[int], budget: int) -> list[list[int]]:
    """First fit: each index of `share` (the longest first) goes to the first bin with room for it."""
    bins: list[list[int]] = []
    room: list[int] = []
    for k in share:
        number = next((number for number, left in enumerate(room) if tokens[k] <= left), len(bins))
        if number == len(bins):
            bins.append([])
            room.append(budget)
        bins[number].append(k)
        room[number] -= tokens[k]
    return bins


LENGTH_INDEPENDENT_SPLITS = {"padded": rank_micro_batches, "llava_groups": consecutive_micro_batches}
"""By `train.batching`, where a rank's part does not depend on lengths."""


@dataclass(frozen=True, eq=False)
class BatchPartitioner:
    """Splits a global batch by `train.batching`. `grouped` and `packed` need `lengths`."""

    plan: BatchPlan
    batching: str = "padded"
    token_budget: int = 0
    lengths: Lengths | None = None

    def of_rank(self, batch: Sequence[int], rank: int) -> MicroBatches:
        """Rank `rank`'s micro-batches of a global batch."""
        split = LENGTH_INDEPENDENT_SPLITS.get(self.batching)
        return split(batch, rank, self.plan) if split else self.all_ranks(batch)[rank]

    def all_ranks(self, batch: Sequence[int]) -> list[MicroBatches]:
        """Every rank's micro-batches of a global batch, equally many on each."""
        if split := LENGTH_INDEPENDENT_SPLITS.get(self.batching):
            return [split(batch, rank, self.plan) for rank in range(self.plan.world)]
        tokens = self._tokens(batch)
        if self.batching == "grouped":
            return grouped_micro_batches(batch, tokens, self.plan)
        return packed_micro_batches(batch, tokens, self.plan.world, self.token_budget)

    def tokens_run(self, batch: Sequence[int]) -> int:
        """Tokens that all ranks run for a global batch, padding included."""
        micro_batches = [self._tokens(micro_batch) for share in self.all_ranks(batch) for micro_batch in share]
        if self.batching == "packed":
            return sum(map(sum, micro_batches))
        return sum(len(tokens) * max(tokens) for tokens in micro_batches)

    def _tokens(self, batch: Sequence[int]) -> list[int]:
        """Length of each sample of `batch`; one that only fills up has one token."""
        assert self.lengths is not None
        tokens: list[int] = np.where(np.equal(batch, PADDING), 1, self.lengths[batch]).tolist()
        return tokens


@dataclass(frozen=True, eq=False)
class StepOrder:
    """What every rank reads, step after step."""

    mixture: Mixture
    seed: int
    steps_per_epoch: int
    partitioner: BatchPartitioner
    last_batch: str = "pad"
    """As `EpochOrder.step`."""

    def batches(self, start: int) -> Iterator[list[int]]:
        """The global batch of every step from data step `start` on, without end."""
        for _, step, order in data_steps(self.mixture, self.seed, self.steps_per_epoch, start):
            yield order.step(step, self.partitioner.plan.global_batch, self.last_batch)

    def positions(self, start: int, rank: int) -> Iterator[MicroBatches]:
        """The micro-batches of `rank` in the same steps."""
        for batch in self.batches(start):
            yield self.partitioner.of_rank(batch, rank)
