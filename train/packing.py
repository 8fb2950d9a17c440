"""A global batch dealt to ranks and micro-batches: which rank runs what, and together with what.

The samples of an optimizer step are given (`train.epochs`); nothing here adds, drops or moves one to another step.
Every rank computes the whole deal from the same numbers and takes its own share, so ranks need not talk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from train.epochs import Mixture, data_steps
from train.schedule import BatchPlan

MicroBatches = list[list[int]]
"""The micro-batches of one rank and step, in the order they are run, as positions."""


def rank_share(batch: Sequence[int], rank: int, plan: BatchPlan) -> MicroBatches:
    """Rank `rank`'s micro-batches of a global batch, dealt one by one.

    Sample k of the batch goes to rank k mod world, so padding at the end is spread evenly.
    """
    mine = list(batch[rank :: plan.world])
    return [mine[start : start + plan.micro_batch] for start in range(0, len(mine), plan.micro_batch)]


@dataclass(frozen=True, eq=False)
class Dealing:
    """The rule by which a global batch is dealt."""

    plan: BatchPlan

    def share(self, batch: Sequence[int], rank: int) -> MicroBatches:
        """Rank `rank`'s micro-batches of a global batch."""
        return rank_share(batch, rank, self.plan)


@dataclass(frozen=True, eq=False)
class StepOrder:
    """What every rank reads, step after step."""

    mixture: Mixture
    seed: int
    steps_per_epoch: int
    dealing: Dealing

    def positions(self, start: int, rank: int) -> Iterator[tuple[int, MicroBatches]]:
        """(epoch, micro-batches) of `rank` for every step from data step `start` on, without end."""
        for epoch, step, order in data_steps(self.mixture, self.seed, self.steps_per_epoch, start):
            yield epoch, self.dealing.share(order.step(step, self.dealing.plan.global_batch), rank)
