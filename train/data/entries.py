"""How many entries of an epoch each source and each class has: numbers in, numbers out.

    by_share(["a", "b"], [0.7, 0.3], [100, 900])               # 700 and 300 of 1,000 entries: a seven times
    by_share(["a", "b"], [0.7, 0.3], [100, 900], [40, 400])    # the same shares of tokens: 959 and 41 entries
    by_class("a", [900, 90, 10], 1000, "equal")                # 334, 333 and 333 entries

Fractions are rounded by largest remainder, so that counts add up and do not depend on a random number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.errors import ConfigError

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Strata:
    """Parts of an epoch with a declared number of entries, such as the classes of a source.

    `of_position` (N,) is the part of each position, `entries` the number of entries of each part in an epoch.
    """

    of_position: Numbers
    entries: Numbers


def largest_remainder(total: int, quotas: Sequence[float]) -> Numbers:
    """`total` divided in proportion to `quotas`, in whole numbers that add up to it; earlier parts first if equal.

    >>> largest_remainder(10, [1, 1, 1]).tolist()
    [4, 3, 3]
    """
    parts = np.asarray(quotas, dtype=np.float64)
    exact = parts / parts.sum() * total
    counts: Numbers = np.floor(exact + 1e-9).astype(np.int64)
    rest = total - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:rest]] += 1
    return counts


def by_share(
    names: Sequence[str], shares: Sequence[float], samples: Sequence[int], mean_tokens: Sequence[float] | None = None
) -> Numbers:
    """Entries of each source: `shares` of as many entries as there are `samples`, or with `mean_tokens` of the tokens.

    Raises `ConfigError` for a source without samples or tokens, or with a share of less than one entry.
    """
    for name, count, tokens in zip(names, samples, mean_tokens or [1.0] * len(names), strict=True):
        if not count or not tokens:
            what = "samples" if not count else "tokens of this kind"
            raise ConfigError(f"train.shares gives {name} a share and it has no {what}; remove it from train.sources")
    quotas = [share / tokens for share, tokens in zip(shares, mean_tokens or [1.0] * len(names), strict=True)]
    entries = largest_remainder(sum(samples), quotas)
    for name, share, count in zip(names, shares, entries.tolist(), strict=True):
        if not count:
            raise ConfigError(
                f"train.shares gives {name} {share:g}, which is less than one of the {sum(samples):,} entries of an "
                "epoch; raise the share, or remove the source"
            )
    return entries


def by_class(name: str, counts: Sequence[int], total: int, balance: str) -> Numbers:
    """Entries of each class of the source `name` with `counts` samples each (all above 0), `total` in all.

    Raises `ConfigError` if a class would have none.
    """
    entries = largest_remainder(total, [1.0] * len(counts) if balance == "equal" else np.sqrt(counts).tolist())
    if not entries.all():
        raise ConfigError(
            f"train.balance is {balance}, and an epoch has {total:,} entries of {name} for {len(counts):,} classes, so "
            f"that {int((entries == 0).sum()):,} classes would never come; raise its passes or share"
        )
    return entries
