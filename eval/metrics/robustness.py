"""How much a score depends on settings that should not matter: per factor and over all variants. Pure functions.

Every variant is compared with the base on the same items (McNemar, adjusted by Holm's method for the number of
variants). The spread over variants is not the sampling error of the items, which is the interval of each accuracy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.seed_statistics import holm
from eval.metrics.accuracy import Rate
from eval.metrics.paired import compare_correct
from eval.metrics.seeds import Spread


@dataclass(frozen=True, slots=True)
class FactorOutcomes:
    """A factor with, for each value, which items are correct (id to whether); the base's value comes first.

    With a `reason` it was not varied, and there are no values.
    """

    name: str
    setting: str
    values: Mapping[str, Mapping[str, bool]]
    reason: str | None = None


def robustness_results(base: Mapping[str, bool], factors: Sequence[FactorOutcomes]) -> dict[str, Any]:
    """The content of robustness.json below its header.

    Raises `RunError` if a variant has no item in common with the base.
    """
    varied = [(factor, value) for factor in factors for value in list(factor.values)[1:]]
    compared = [compare_correct(base, factor.values[value]).to_json() for factor, value in varied]
    adjusted = holm([pair["p_value"] for pair in compared])
    pairs = {
        (factor.name, value): pair | {"p_adjusted": p}
        for (factor, value), pair, p in zip(varied, compared, adjusted, strict=True)
    }
    everything = [base, *(factor.values[value] for factor, value in varied)]
    return {
        "base": _rate(base),
        "variants": len(everything),
        "overall": _spread(everything),
        "factors": [_factor(factor, pairs) for factor in factors],
    }


def _factor(factor: FactorOutcomes, pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    head = {"factor": factor.name, "setting": factor.setting, "reason": factor.reason}
    if not factor.values:
        return head | {"values": []}
    values = [
        {"value": value, "accuracy": _rate(correct), "against_base": pairs.get((factor.name, value))}
        for value, correct in factor.values.items()
    ]
    return head | _spread(list(factor.values.values())) | {"values": values, "changed": _changed(factor.values)}


def _rate(correct: Mapping[str, bool]) -> dict[str, Any]:
    return Rate(sum(correct.values()), len(correct)).to_json()


def _spread(outcomes: Sequence[Mapping[str, bool]]) -> dict[str, Any]:
    """Mean, standard deviation (None of one value), lowest and highest accuracy."""
    values = [sum(correct.values()) / len(correct) if correct else None for correct in outcomes]
    known = Spread.of(values)
    if known is None:
        return {"mean": None, "deviation": None, "min": None, "max": None}
    return {"mean": known.mean, "deviation": known.deviation, "min": min(known.values), "max": max(known.values)}


def _changed(values: Mapping[str, Mapping[str, bool]]) -> dict[str, Any]:
    """Of the items that all values answer, those that are correct under some values and not under others."""
    outcomes = list(values.values())
    shared = set(outcomes[0]).intersection(*outcomes[1:])
    flipped = sum(len({correct[item] for correct in outcomes}) > 1 for item in shared)
    return Rate(flipped, len(shared)).to_json()
