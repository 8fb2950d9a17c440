"""The linear probe's part of the loss: weight x the mean cross entropy over a global batch's samples with a class.

As with the language model's loss (`train.loss`), the denominator of the global batch is known before the first backward
pass, so the loss does not depend on how the batch is split. A sample counts by its class's weight where there are any.
"""

from collections.abc import Sequence

import torch

from train.models.batch import Batch


def local_probe_denominator(batches: Sequence[Batch]) -> float:
    """What this rank adds to the global denominator: its samples with a class, by their weights."""
    return sum(float(_counted(batch).sum()) for batch in batches)


def set_probe_weights(batch: Batch, weight: float, denominator: float, scale: float) -> None:
    """Set `batch.probe_weights` in place.

    `weight` is `loss.probe`, `denominator` the sum of `local_probe_denominator` over ranks, `scale` world x
    accumulation.
    """
    if batch.probe_classes is not None:
        batch.probe_weights = (_counted(batch) * (weight * scale / max(denominator, 2**-16))).float()


def _counted(batch: Batch) -> torch.Tensor:
    """(C,) float64: the weight of each conversation with a class, 0 of the others."""
    if batch.probe_classes is None:
        return torch.zeros(len(batch.ids), dtype=torch.float64)
    known = (batch.probe_classes >= 0).double()
    return known if batch.sample_weights is None else known * batch.sample_weights
