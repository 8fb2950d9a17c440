"""How much a score depends on settings that should not matter: per factor and over all variants. Pure functions.

Every variant is compared with the base on the same items (`eval.metrics.grouped.compare_points`), adjusted by Holm's
method for the number of variants. The spread over variants is not the sampling error of the items, which is the
interval of each accuracy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from data_prep.seed_statistics import holm
from eval.metrics.accuracy import Rate
from eval.metrics.grouped import ItemPoints, compare_points
from eval.metrics.question_metrics import BY_IMAGE, mean_of_points
from eval.metrics.seeds import Spread

Points = Mapping[str, ItemPoints]  # by item id


@dataclass(frozen=True, slots=True)
class FactorOutcomes:
    """A factor with, for each value, the points of every item; the base's value comes first.

    With a `reason` it was not varied, and there are no values.
    """

    name: str
    setting: str
    values: Mapping[str, Points]
    reason: str | None = None


def robustness_results(base: Points, factors: Sequence[FactorOutcomes], task: str) -> dict[str, Any]:
    """The content of robustness.json below its header; accuracies are those of `task`, as in a report.

    Raises `RunError` if a variant has no item in common with the base.
    """
    varied = [(factor, value) for factor in factors for value in list(factor.values)[1:]]
    compared = [compare_points(base, factor.values[value]) for factor, value in varied]
    adjusted = holm([pair["p_value"] for pair in compared])
    pairs = {
        (factor.name, value): pair | {"p_adjusted": p}
        for (factor, value), pair, p in zip(varied, compared, adjusted, strict=True)
    }
    everything = [base, *(factor.values[value] for factor, value in varied)]
    return {
        "base": _accuracy(base, task),
        "variants": len(everything),
        "overall": _spread(everything),
        "factors": [_factor(factor, pairs, task) for factor in factors],
    }


def _factor(factor: FactorOutcomes, pairs: Mapping[tuple[str, str], Mapping[str, Any]], task: str) -> dict[str, Any]:
    head = {"factor": factor.name, "setting": factor.setting, "reason": factor.reason}
    if not factor.values:
        return head | {"values": []}
    values = [
        {"value": value, "accuracy": _accuracy(found, task), "against_base": pairs.get((factor.name, value))}
        for value, found in factor.values.items()
    ]
    return head | _spread(list(factor.values.values())) | {"values": values, "changed": _changed(factor.values)}


def _accuracy(found: Points, task: str) -> dict[str, Any]:
    if task in BY_IMAGE:
        return mean_of_points((item.group or name, item.points) for name, item in found.items())
    return Rate(sum(item.points == 1 for item in found.values()), len(found)).to_json()


def _spread(outcomes: Sequence[Points]) -> dict[str, Any]:
    """Mean, standard deviation (None of one value), lowest and highest accuracy."""
    values = [fmean(item.points for item in found.values()) if found else None for found in outcomes]
    known = Spread.of(values)
    if known is None:
        return {"mean": None, "deviation": None, "min": None, "max": None}
    return {"mean": known.mean, "deviation": known.deviation, "min": min(known.values), "max": max(known.values)}


def _changed(values: Mapping[str, Points]) -> dict[str, Any]:
    """Of the items that all values answer, those that have more points under some values than under others."""
    outcomes = list(values.values())
    shared = set(outcomes[0]).intersection(*outcomes[1:])
    flipped = sum(len({found[item].points for found in outcomes}) > 1 for item in shared)
    return Rate(flipped, len(shared)).to_json()
