"""Loss reduction: from token losses to one number. `token` and `sample` do not depend on how the batch was split.

The loss is a weighted sum over supervised tokens, and the weights contain all factors: the denominators of the *global*
batch, known before the first backward, and the factor that undoes DeepSpeed's mean over ranks and micro-batches.

    token        w = 1 / (supervised tokens of the global batch)
    sample       w = 1 / (supervised tokens of the sample x supervised samples of the global batch)
    micro_batch  w = 1 / (supervised tokens of the micro-batch x micro-batches of the step)        as in LLaVA

With weights of classes, a sample's tokens count by its weight v, in the sum and in each denominator: the weighted mean.
The v are multiples of 2^-16 (`train.data.class_weights`), so their sums are exact and the same for every split.

Class names have 2 to 6 supervised tokens, conversations 300: the choice decides the weight of a class name relative to
a conversation.
"""

from collections.abc import Sequence

import torch

from configs.errors import ConfigError
from train.chat.conversation import IGNORE_INDEX
from train.models.batch import Batch


def local_denominator(batches: Sequence[Batch], reduction: str) -> float:
    """What this rank adds to the global denominator: tokens, samples or micro-batches with something to learn."""
    if reduction == "token":
        return sum(float(_weighted_counts(batch).sum()) for batch in batches)
    if reduction == "sample":
        return sum(float(_weights(batch)[batch.supervised() > 0].sum()) for batch in batches)
    if reduction == "micro_batch":
        return float(sum(bool(batch.supervised().sum()) for batch in batches))
    raise ConfigError(f"loss.reduction is {reduction!r}; choose token, sample or micro_batch")


def _weights(batch: Batch) -> torch.Tensor:
    """(C,) float64 weight of each conversation."""
    if batch.sample_weights is None:
        return torch.ones(len(batch.ids), dtype=torch.float64, device=batch.labels.device)
    return batch.sample_weights


def _weighted_counts(batch: Batch) -> torch.Tensor:
    """(C,) float64 supervised tokens of each conversation, times its weight."""
    return batch.supervised() * _weights(batch)


def set_loss_weights(batch: Batch, reduction: str, denominator: float, scale: float) -> None:
    """Set `batch.weights` in place.

    `denominator` is the sum of `local_denominator` over ranks, `scale` is world x accumulation.
    """
    supervised = batch.labels != IGNORE_INDEX  # (B, T)
    if reduction == "sample":
        divisors = batch.supervised().double()[batch.sequence_ids] * denominator  # padding takes any: its weight is 0
    elif reduction == "micro_batch":
        divisors = _weighted_counts(batch).sum() * denominator
    else:
        divisors = torch.tensor(denominator, dtype=torch.float64)
    divisors = torch.where(divisors == 0, 1, divisors)  # nothing is supervised
    batch.weights = supervised * (scale / divisors.float())
    if batch.sample_weights is not None:
        batch.weights = batch.weights * batch.sample_weights.float()[batch.sequence_ids]
