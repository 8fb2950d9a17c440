"""What stored class scores say beyond the best class: top-5 accuracy, calibration, and accuracy under abstention.

Computed from the answers of task class_likelihood or zero_shot that are on the disk; no model is run. All numbers are
about the candidates among which an item was scored. Of classes that share a name only the first has a probability.

Shapes: `N` items, `K` candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.class_names import first_indices
from eval.class_scores.table import read_class_scores, rule_of, stored_bytes
from eval.metrics.abstention import best_aurc, coverage_curve, estimate_aurc
from eval.metrics.accuracy import Rate
from eval.metrics.calibration import BINNINGS, estimate_calibration_error, expected_if_calibrated, reliability
from eval.metrics.guidance import selects_t
from eval.metrics.temperature import Scores, confidences, convention_only, fit_temperature, own_temperature
from eval.tasks.class_likelihood import ClassLikelihood
from eval.tasks.registry import make_task, task_output
from eval.types import Prediction, Score

TOP = 5
LEAST_FITTED = 20  # items in each half
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """Items with their `scores` (N, K) by the protocol's rule: `labels` (N,) is the column of each item's class,
    `correct` (N,) whether its answer is, `top` (N,) whether one of the best five is (None of five candidates or less),
    `fitting` (N,) which items choose a temperature.
    """

    scores: Scores
    labels: NDArray[np.int64]
    correct: Flags
    top: Flags | None
    fitting: Flags


def class_score_results(
    folder: EvalDir,
    predictions: Sequence[Prediction],
    scored: Sequence[tuple[Prediction, Score]],
    protocol: ProtocolConfig,
) -> dict[str, Any] | None:
    """`class_scores` of report.json; None where no class scores are stored.

    `predictions` are all answers, also to images without a label: a prior may be their mean. Raises `RunError` if the
    table of the classes is missing, or what the rule sums was not stored.
    """
    items = [(prediction, score) for prediction, score in scored if prediction.scores is not None]
    if not items or task_output(protocol.task) not in ("class_likelihoods", "similarities", "probe_scores"):
        return None
    task = make_task(protocol, "")
    assert isinstance(task, ClassLikelihood)
    task.prepare(folder, predictions)
    found = candidate_scores(task, items)
    table, rule = read_class_scores(folder), rule_of(protocol)
    own = protocol.temperature or own_temperature(rule, table, cosines=protocol.task == "zero_shot")
    return {
        "n": len(items),
        "candidates": found.scores.shape[1],
        "classes": len(set(table.names)),
        "bytes_per_item": stored_bytes(len(table.names)) * (2 if items[0][0].probabilities else 1),
        "top": None if found.top is None else {"k": TOP} | Rate(int(found.top.sum()), len(items)).to_json(),
        "temperature": own,
        "temperature_is": _named(protocol, own, convention_only(rule)),
        "own": None if own is None else confidence_results(found.scores, found.correct, own),
        "fitted": _fitted(found),
    }


def candidate_scores(task: ClassLikelihood, items: Sequence[tuple[Prediction, Score]]) -> CandidateScores:
    """The stored scores of all items among their candidates; `task` is prepared."""
    first = first_indices(task.names)
    distinct = np.array([first[name] == index for index, name in enumerate(task.names)])
    rows, labels, best_five = [], [], []
    for prediction, _ in items:
        allowed, scores = task.candidate_scores(prediction)
        kept = distinct[allowed]
        rows.append(scores[kept].astype(np.float32))
        right = [first[name] for name in task.labels_of(prediction) if first[name] in allowed[kept]]
        label = first[prediction.target]  # always a candidate, also where none of protocol.labels is
        labels.append(int(np.searchsorted(allowed[kept], label if label in right or not right else right[0])))
        if task.config.duplicates == "any":  # a name takes one of the five positions only
            allowed, scores = allowed[kept], scores[kept]
        order = allowed[np.argsort(-scores, kind="stable")[:TOP]]
        best_five.append(any(task.accepts(prediction, int(index)) for index in order))
    return CandidateScores(
        np.stack(rows),
        np.array(labels),
        np.array([score.value is True for _, score in items]),
        np.array(best_five) if len(rows[0]) > TOP else None,
        np.array([selects_t(prediction.id) for prediction, _ in items]),
    )


def confidence_results(scores: Scores, correct: Flags, temperature: float) -> dict[str, Any]:
    """Calibration and abstention with confidences by this temperature."""
    confident = confidences(scores, temperature)
    errors = {
        binning: estimate_calibration_error(confident, correct, binning).to_json()
        | {"if_calibrated": expected_if_calibrated(confident, binning)}
        for binning in BINNINGS
    }
    return {
        "n": len(correct),
        "accuracy": Rate(int(correct.sum()), len(correct)).to_json(),
        "mean_confidence": float(confident.mean()),
        "calibration_error": errors,
        "reliability": [part.to_json() for part in reliability(confident, correct)],
        "aurc": estimate_aurc(confident, correct).to_json() | {"best": best_aurc(correct)},
        "coverage": [point.to_json() for point in coverage_curve(confident, correct)],
    }


def _named(protocol: ProtocolConfig, own: float | None, convention: bool) -> str:
    """Where the temperature comes from, for a reader."""
    if protocol.temperature is not None:
        return "set by protocol.temperature"
    if protocol.task == "zero_shot":
        return "the model's own" if own else "unknown: these answers do not store the model's own"
    if own is None:
        return "none: these scores are no logarithms"
    if protocol.task == "trained_probe":
        return "that of the probe's softmax"
    return (
        "a convention: these scores are not probabilities of whole names" if convention else "that of log-likelihoods"
    )


def _fitted(found: CandidateScores) -> Mapping[str, Any]:
    """The temperature fitted on one half of the items, and the confidences of the other half; or why there is none."""
    halves = found.fitting, ~found.fitting
    sizes = [int(half.sum()) for half in halves]
    if min(sizes) < LEAST_FITTED:
        parts = f"the halves, drawn by the items' ids, have {sizes[0]:,} and {sizes[1]:,}"
        return {"reason": f"{sum(sizes):,} items are too few: {parts}, and each needs {LEAST_FITTED}"}
    temperature = fit_temperature(found.scores[halves[0]], found.labels[halves[0]])
    if temperature is None:
        return {"reason": "no temperature is best: all labels of that half have the best score, or none is favoured"}
    results = confidence_results(found.scores[halves[1]], found.correct[halves[1]], temperature)
    return {"temperature": temperature, "fitted_on": int(halves[0].sum())} | results
