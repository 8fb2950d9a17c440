"""Loss reduction: from token losses to one number. `token` and `sample` do not depend on how the batch was split.

The loss is a weighted sum over supervised tokens, and the weights contain all factors: the denominators of the *global*
batch, known before the first backward, and the factor that undoes DeepSpeed's mean over ranks and micro-batches.

    token        w = 1 / (supervised tokens of the global batch)
    sample       w = 1 / (supervised tokens of the sample x supervised samples of the global batch)
    micro_batch  w = 1 / (supervised tokens of the micro-batch x micro-batches of the step)        as in LLaVA

Class names have 2 to 6 supervised tokens, conversations 300: the choice decides the weight of a class name relative to
a conversation.
"""

from collections.abc import Sequence

import torch

from configs.errors import ConfigError
from train.chat.conversation import IGNORE_INDEX
from train.models.batch import Batch


def local_denominator(batches: Sequence[Batch], reduction: str) -> int:
    """What this rank adds to the global denominator: tokens, samples or micro-batches with something to learn."""
    counts = [batch.supervised() for batch in batches]  # C each
    if reduction == "token":
        return int(sum(int(count.sum()) for count in counts))
    if reduction == "sample":
        return int(sum(int((count > 0).sum()) for count in counts))
    if reduction == "micro_batch":
        return sum(int(bool(count.sum())) for count in counts)
    raise ConfigError(f"loss.reduction is {reduction!r}; choose token, sample or micro_batch")


def set_loss_weights(batch: Batch, reduction: str, denominator: int, scale: float) -> None:
    """Set `batch.weights` in place.

    `denominator` is the sum of `local_denominator` over ranks, `scale` is world x accumulation.
    """
    supervised = batch.labels != IGNORE_INDEX  # (B, T)
    counts = batch.supervised()  # (C,)
    if reduction == "sample":
        divisors = counts[batch.sequence_ids] * denominator  # padding takes any: its weight is 0
    elif reduction == "micro_batch":
        divisors = counts.sum() * denominator
    else:
        divisors = torch.tensor(denominator)
    batch.weights = supervised * (scale / divisors.clamp(min=1).float())
