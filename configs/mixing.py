"""Checks of the settings that mix sources and weigh classes: `train.shares`, `loss.weight_of_class`."""

import math
from collections.abc import Mapping, Sequence

from configs.errors import ConfigError

MAX_WEIGHT = 1000.0


def check_shares(
    shares: Mapping[str, float], share_of: str, sources: Sequence[str], passes: Mapping[str, float]
) -> None:
    """Raise `ConfigError` for shares that are not one positive number a source, or next to passes."""
    if not shares:
        if share_of != "samples":
            raise ConfigError(f"share_of is {share_of} and there are no shares; give shares: {{SOURCE: 0.7, ...}} too")
        return
    if passes:
        raise ConfigError("shares and passes_per_epoch both say how much of a source is in an epoch; give one of them")
    for name, share in shares.items():
        if name not in sources:
            raise ConfigError(f"shares names {name!r}, which is not in train.sources: {', '.join(sources)}")
        if not 0 < share < math.inf:
            raise ConfigError(f"the share of {name!r} is {share}; give a number above 0, or remove the source")
    missing = [name for name in sources if name not in shares]
    if missing:
        raise ConfigError(f"shares has no share of {', '.join(missing)}; give one to each source in train.sources")
    total = sum(shares.values())
    if not math.isclose(total, 1.0, abs_tol=0.005):  # 0.333 three times is meant as thirds
        raise ConfigError(
            f"the shares {', '.join(map(str, shares.values()))} add up to {total:g}; they must add up to 1"
        )


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise `ConfigError` for a weight of a class outside its limits."""
    for name, weight in weights.items():
        if not 1 / MAX_WEIGHT <= weight <= MAX_WEIGHT:
            raise ConfigError(
                f"weight_of_class of {name!r} is {weight}; give a number from {1 / MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
            )
