"""From class scores to confidences: the softmax with a temperature, and the temperature that fits best.

    p(class) = exp(score / T) / sum over the candidates of exp(score / T)          the confidence is the largest p

`own` is the temperature that the scores bring with them: 1 for log-likelihoods (p is then the probability of a name
given that one of the candidates is the answer), 1 / logit_scale for the cosines of a CLIP. A mean over tokens, and
guidance in log space, are logarithms too, but not of probabilities of names: 1 is a convention for them. Sums of
probabilities and guidance in probability space are no logarithms and have none. `fitted` is the temperature with the
highest likelihood of the labels (Guo et al. 2017, arXiv 1706.04599, Section 4.2).

Shapes: `N` items, `K` candidates.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.class_scores.rules import Floats, Rule
from eval.class_scores.table import ClassScoreTable

MOST_FITTED = 5000  # items; one parameter needs no more
Scores = NDArray[np.floating[Any]]
SPAN = 1e3  # the fitted temperature is within this factor of the scores' spread


def own_temperature(rule: Rule, table: ClassScoreTable, *, cosines: bool) -> float | None:
    """The temperature that belongs to the scores of `rule`; None where there is none, or it was not stored."""
    if cosines:
        return None if table.logit_scale is None else 1 / table.logit_scale
    logarithms = not rule.sums_probabilities and not (rule.guided and rule.form == "probability")
    return 1.0 if logarithms else None


def convention_only(rule: Rule) -> bool:
    """Whether the scores are logarithms, but not of probabilities of whole names."""
    return rule.mean or rule.guided


def log_softmax(scores: Scores, temperature: float) -> Floats:
    """(N, K) logarithms of the candidates' probabilities.

    >>> np.exp(log_softmax(np.array([[0.0, 2 * np.log(3)]]), 2.0)).round(4).tolist()
    [[0.25, 0.75]]
    """
    scaled = np.asarray(scores, dtype=np.float64)
    with np.errstate(over="ignore"):  # of a tiny temperature: -inf, whose probability is 0
        scaled = (scaled - scaled.max(1, keepdims=True)) / temperature
    logs: Floats = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
    return logs


def confidences(scores: Scores, temperature: float) -> Floats:
    """(N,) the probability of each item's best candidate."""
    best: Floats = np.exp(log_softmax(scores, temperature).max(1))
    return best


def fit_temperature(scores: Scores, labels: NDArray[np.int64]) -> float | None:
    """The temperature with the highest likelihood of `labels` (N,), the column of each item's label.

    None if there is no best one: every label has the best score, which a lower temperature always makes more probable,
    or the scores do not favour the labels at all.
    """
    from scipy.optimize import minimize_scalar  # slow to import, needed by few reports

    fitted, labels = np.asarray(scores[:MOST_FITTED], dtype=np.float64), labels[:MOST_FITTED]
    spread = float(fitted.std(1).mean())
    if not spread:
        return None

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(fitted, math.exp(log_temperature))[np.arange(len(labels)), labels].mean())

    low, high = math.log(spread / SPAN), math.log(spread * SPAN)
    found = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x)
    return math.exp(found) if low + 0.1 < found < high - 0.1 else None
