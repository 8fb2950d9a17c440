"""The weight of each sample's loss by its class (`loss.class_weights`, `loss.weight_of_class`).

    inverse       w(c) = (E / C) / e(c)          e(c): entries of class c in an epoch, E: of all C classes
    inverse_sqrt  w(c) = E / (sum of sqrt(e)) / sqrt(e(c))

Both have the mean 1 over the entries. Classes of one name are one class. Weights are multiples of 2^-16, so that their
sums are exact and do not depend on how a batch is divided over ranks and micro-batches.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.errors import ConfigError
from configs.training import LossConfig
from train.data.order import Mixture

UNIT = 1 / 65536
Weights = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """`of_position` (N,) is the weight of each position's sample, `by_name` that of each class that is trained on."""

    of_position: Weights
    by_name: Mapping[str, float]


def class_weights(
    loss: LossConfig, mixture: Mixture, labels: np.ndarray[Any, np.dtype[np.int64]], names: Sequence[Sequence[str]]
) -> ClassWeights | None:
    """The weights that `loss` declares; None where all are 1.

    `labels` (N,) are the classes of all positions, -1 for none, as indexes of their source's `names`. Raises
    `ConfigError` for a class that is not trained on, and if no sample has a class.
    """
    if loss.class_weights == "none" and not loss.weight_of_class:
        return None
    number = {name: index for index, name in enumerate(dict.fromkeys(name for some in names for name in some))}
    classes = np.full(len(labels), -1)
    for (first, last), some in zip(mixture.bounds(), names, strict=True):
        own = labels[first:last]
        if some:
            classes[first:last] = np.where(own < 0, -1, np.array([number[name] for name in some])[own])
    known = classes >= 0
    entries = np.bincount(classes[known], weights=mixture.expected_repeats()[known], minlength=len(number))
    trained = [name for name, index in number.items() if entries[index] > 0]
    if not trained:
        raise ConfigError("loss.class_weights and loss.weight_of_class need classes, and no trained sample has one")
    _check_names(loss.weight_of_class, trained)
    weights = np.ones(len(number) + 1)  # the last is that of samples without a class
    present = np.flatnonzero(entries)
    if loss.class_weights != "none":
        power = 1.0 if loss.class_weights == "inverse" else 0.5
        raw = entries[present] ** -power
        weights[present] = raw * entries[present].sum() / (raw * entries[present]).sum()
    for name, factor in loss.weight_of_class.items():
        weights[number[name]] *= factor
    weights = np.maximum(np.round(weights / UNIT), 1.0) * UNIT
    return ClassWeights(weights[classes], {name: float(weights[number[name]]) for name in trained})


def described(weights: ClassWeights) -> str:
    """For the dry run: the number of classes, the smallest and the largest weight."""
    ordered = sorted(weights.by_name.items(), key=lambda item: (item[1], item[0]))
    ends = ordered if len(ordered) <= 2 else [ordered[0], ordered[-1]]
    shown = " to ".join(f"{weight:.4g} ({name!r})" for name, weight in ends)
    return f"{len(ordered):,} classes, {shown}"


def _check_names(given: Mapping[str, float], trained: Sequence[str]) -> None:
    for name in given:
        if name not in trained:
            near = difflib.get_close_matches(name, trained, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; these are {', '.join(trained[:5])}, ..."
            raise ConfigError(f"loss.weight_of_class names {name!r}, which is no class that is trained on{hint}")
