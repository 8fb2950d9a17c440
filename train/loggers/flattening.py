"""Records of steps as W&B and TensorBoard take them: one level of names."""

from collections.abc import Mapping
from typing import Any

from train.loggers.types import Record


def flattened(record: Record) -> dict[str, Any]:
    """A record without nesting.

    >>> flattened({"step": 1, "lr": {"projector": 0.1}})
    {'step': 1, 'lr/projector': 0.1}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": number for inner, number in value.items()}
        else:
            flat[key] = value
    return flat
