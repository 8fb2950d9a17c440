"""What all ranks saw in a step, summed in one collective: losses per source, counts, requests to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

from train.distributed.world import World
from train.models.batch import Batch
from train.optimization.engine import Losses
from train.supervision.signals import stop_requested


@dataclass(frozen=True)
class Totals:
    """Sums over all ranks of one step."""

    loss: float
    stop: bool
    """A rank received a stop request."""
    supervised: int
    samples: int
    without_targets: int
    """Samples without a supervised token."""
    unreadable: int
    tokens: int
    own_seconds: tuple[float, ...]
    """Per rank: seconds of data loading, of forward passes, and in which the process was suspended."""
    by_source: dict[str, float]
    """Source to the mean loss of its supervised tokens, of those that have some."""
    probe_loss: float | None = None
    """Mean cross entropy of a linear probe over the samples with a class; None where there are none."""


def sum_over_ranks(
    world: World, names: Sequence[str], batches: Sequence[Batch], losses: Losses, own_seconds: float
) -> Totals:
    """Sum what all ranks saw. Collective.

    `losses` are this rank's for its `batches`, `own_seconds` is what it spent without waiting for others.
    """
    sums, tokens = [0.0] * len(names), [0.0] * len(names)
    supervised = samples = without_targets = unreadable = all_tokens = 0
    for batch, by_sample in zip(batches, losses.sums, strict=True):
        counts = batch.supervised().tolist()
        rows = zip(batch.sources.tolist(), by_sample.double().tolist(), counts, strict=True)
        for source, summed, count in rows:
            if source < 0:
                continue
            sums[source] += summed
            tokens[source] += count
            samples += 1
            without_targets += count == 0
        supervised += sum(counts)
        unreadable += len(batch.unreadable)
        all_tokens += int(batch.attention_mask.sum())
    classified = [batch.probe_classes for batch in batches if batch.probe_classes is not None]
    scalars = [
        losses.contribution,
        float(stop_requested()),
        supervised,
        samples,
        without_targets,
        unreadable,
        all_tokens,
        sum(float(by_sample.double().sum()) for by_sample in losses.probes),
        sum(int((classes >= 0).sum()) for classes in classified),
    ]
    seconds = [own_seconds if rank == world.rank else 0.0 for rank in range(world.size)]
    summed = world.all_sum([*scalars, *seconds, *sums, *tokens])
    (loss, stop, *counts, probe_sum, with_class), rest = summed[: len(scalars)], summed[len(scalars) :]
    seconds, sums, tokens = rest[: world.size], rest[world.size : -len(names)], rest[-len(names) :]
    by_source = {name: total / count for name, total, count in zip(names, sums, tokens, strict=True) if count}
    supervised, samples, without_targets, unreadable, all_tokens = map(int, counts)
    own = tuple(seconds)
    probe_loss = probe_sum / with_class if with_class and losses.probes else None
    counted = (supervised, samples, without_targets, unreadable, all_tokens)
    return Totals(loss, bool(stop), *counted, own, by_source, probe_loss)
