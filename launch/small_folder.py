"""Settings that fit a folder of photographs: the batch, the ranks and the epochs, where the person set none."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from configs.base_models import TINY
from configs.training import TrainConfig

LEAST_STEPS = 200  # of the small base; on 249 photographs of 5 classes its loss is near its least after 150
FEW = 10  # photographs a class


@dataclass(frozen=True)
class Fitted:
    """Settings of the training, the number of ranks, and why."""

    settings: tuple[str, ...]
    ranks: int
    notes: tuple[str, ...]


def fit(train: TrainConfig, samples: int, ranks: int, base: str, given: Sequence[str]) -> Fitted:
    """What fits `samples` training photographs; a setting in `given` (KEY=VALUE) is left as it is.

    A folder that does not fill one batch gets the largest power of two that it fills; the number of ranks divides the
    batch; the small base takes at least `LEAST_STEPS` steps.
    """
    keys = {text.partition("=")[0] for text in given}
    settings, notes = [], []
    batch = train.global_batch
    if samples < batch and not keys & {"train.global_batch", "train.last_batch"}:
        batch = 1 << (samples.bit_length() - 1)
        settings += [f"train.global_batch={batch}", "train.micro_batch=auto"]
        notes.append(f"{samples} training photographs: batches of {batch} in place of {train.global_batch}")
    fewer = next(count for count in range(min(ranks, batch), 0, -1) if batch % count == 0)
    share = batch // fewer
    if "train.micro_batch=auto" not in settings and isinstance(train.micro_batch, int) and share % train.micro_batch:
        settings.append("train.micro_batch=auto")
    per_epoch = max(1, samples // batch)
    epochs = max(train.epochs, ceil(LEAST_STEPS / per_epoch))
    if base == TINY and epochs > train.epochs and not keys & {"train.epochs", "train.max_steps"}:
        settings.append(f"train.epochs={epochs}")
        notes.append(f"{epochs} epochs in place of {train.epochs}, for {epochs * per_epoch} steps")
    return Fitted(tuple(settings), fewer, tuple(notes))
