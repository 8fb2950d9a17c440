"""The parts of an epoch that `train.shares` and `train.balance` declare: sources, and classes within them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from configs.errors import ConfigError
from configs.training import TrainConfig
from train.data.entries import Numbers, Strata, by_class, by_share
from train.data.order import Mixture

Tokens = np.ndarray[Any, np.dtype[np.uint32]]


def mixed(plain: Mixture, names: Sequence[str], labels: Numbers, train: TrainConfig, tokens: Tokens | None) -> Mixture:
    """`plain`, with the entries of sources and classes as `train` declares them.

    `labels` (N,) are the classes of all positions within their sources, -1 for none; `tokens` (N,) are those that
    `train.share_of` names. Raises `ConfigError` for a share or a class without an entry.
    """
    if not train.shares and train.balance == "none":
        return plain
    mixes = plain.source_mixes()
    entries = np.array([mix.size for mix in mixes], dtype=np.int64)
    if train.shares:
        samples, shares = [mix.samples for mix in mixes], [train.shares[name] for name in names]
        means = _means(plain, plain, tokens) if train.share_of != "samples" else None
        entries = by_share(names, shares, samples, means)
        if means is not None and train.balance != "none":  # the classes that come more often may be longer
            balanced = replace(plain, strata=_balanced(plain, names, labels, entries, train.balance))
            entries = by_share(names, shares, samples, _means(plain, balanced, tokens))
        plain = replace(plain, weights=tuple((entries / np.maximum(samples, 1)).tolist()))
    if train.balance == "none":
        sizes = [last - first for first, last in plain.bounds()]
        return replace(plain, strata=Strata(np.repeat(np.arange(len(sizes)), sizes), entries))
    return replace(plain, strata=_balanced(plain, names, labels, entries, train.balance))


def _means(plain: Mixture, mixture: Mixture, tokens: Tokens | None) -> list[float]:
    """Mean tokens of an entry of each source in an epoch of `mixture`."""
    assert tokens is not None, "shares of tokens are planned with their counts"
    repeats = mixture.expected_repeats()
    spans = [slice(first, last) for first, last in plain.bounds()]
    return [float((repeats[span] * tokens[span]).sum() / max(1e-9, repeats[span].sum())) for span in spans]


def _balanced(plain: Mixture, names: Sequence[str], labels: Numbers, entries: Numbers, balance: str) -> Strata:
    """Each class of a source is a part; its samples without a class are one that keeps its proportion."""
    of_position = np.zeros(len(labels), dtype=np.int64)
    parts: list[int] = []
    for name, (first, last), total in zip(names, plain.bounds(), entries.tolist(), strict=True):
        own = labels[first:last]
        kept = np.ones(len(own), dtype=np.bool_) if plain.kept is None else plain.kept[first:last]
        classes, counts = np.unique(own[kept & (own >= 0)], return_counts=True)
        without = int((kept & (own < 0)).sum())
        rest = round(total * without / max(1, without + int(counts.sum())))
        of_position[first:last] = len(parts) + len(classes)
        if len(classes):
            known = kept & (own >= 0)
            of_position[first:last][known] = len(parts) + np.searchsorted(classes, own[known])
            parts += by_class(name, counts.tolist(), total - rest, balance).tolist()
        parts.append(rest)
    if len(parts) == len(names):
        raise ConfigError(
            f"train.balance is {balance}, and no sample of {', '.join(names)} has a class; set train.balance=none"
        )
    return Strata(of_position, np.array(parts, dtype=np.int64))
