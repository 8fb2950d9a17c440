"""Mean grades of free answers: in all, by capability and by combination of capabilities (MM-Vet's tables).

A question that needs several capabilities counts for each of them, and for its combination. Intervals are by the
bootstrap over images; the spread is the standard deviation of the total over the repeated gradings.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from eval.metrics.question_metrics import mean_of_points


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """The gradings of one answer, each 0 to 1, the capabilities that its question needs, and its image."""

    gradings: Sequence[float]
    capabilities: Sequence[str]
    group: str


def capability_tables(answers: Sequence[GradedAnswer]) -> dict[str, Any]:
    """`total`, `capabilities` and `combinations`, each a mean with interval and n; `runs`: the total of each grading.

    As in the published evaluator, `deviation` is that of all runs (not of a sample of them); None of one.
    """
    capabilities = sorted({name for answer in answers for name in answer.capabilities})
    combinations = sorted({_combination(answer) for answer in answers})
    number = min((len(answer.gradings) for answer in answers), default=0)
    runs = [fmean(answer.gradings[run] for answer in answers) for run in range(number)]
    return {
        "total": _mean(answers),
        "capabilities": {name: _mean([a for a in answers if name in a.capabilities]) for name in capabilities},
        "combinations": {name: _mean([a for a in answers if _combination(a) == name]) for name in combinations},
        "runs": runs,
        "deviation": pstdev(runs) if len(runs) > 1 else None,
    }


def gradings_of(text: str | None, mean: float) -> list[float]:
    """The gradings that a grade keeps as text ("0.5 0.6"); the mean alone where it keeps none.

    >>> gradings_of("0.5 0.6", 0.55)
    [0.5, 0.6]
    """
    return [float(part) for part in text.split()] if text else [mean]


def _combination(answer: GradedAnswer) -> str:
    return ", ".join(sorted(answer.capabilities))


def _mean(answers: Iterable[GradedAnswer]) -> Mapping[str, Any]:
    mean = mean_of_points((answer.group, fmean(answer.gradings)) for answer in answers)
    return {key: mean[key] for key in ("value", "low", "high", "n")}
