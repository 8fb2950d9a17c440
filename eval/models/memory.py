"""Out-of-memory errors that name the setting to lower, and the reason of answers that are not finite."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from configs.errors import RunError

NOT_FINITE = "the model's output is not finite: set dtype=fp32, and let nothing write to its weights meanwhile"


@contextmanager
def within_memory(number: int, what: str) -> Iterator[None]:
    """Raises `RunError` that names `batch_size` where the device has not enough memory for `number` of `what`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the device has not enough memory for {number} {what} at a time; lower batch_size to {max(1, number // 2)}"
        ) from error
