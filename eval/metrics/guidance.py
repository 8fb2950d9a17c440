"""Classifier-free guidance with its coefficient t swept over stored class scores; no model is run.

The paper's authors choose t on the items they report. Here t is chosen on one half of the items, drawn by their ids,
and the accuracy is that of the other half; the authors' way is computed as well.

Shapes: `N` items, `K` classes, `T` coefficients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.class_scores.rules import Floats, Rule
from eval.class_scores.table import ClassScoreTable, read_class_scores, rule_scores, stored_sums
from eval.metrics.accuracy import Rate
from eval.runner.evaluation_record import Evaluation, protocol_of
from eval.runner.stored_records import evaluation_of, records_of
from eval.tasks.item_labels import ItemLabels
from eval.types import Prediction

SEED = 0
PLAIN = ProtocolConfig()
AUTHORS = tuple(map(float, range(9)))  # inference_analysis/get_accuracy.ipynb: alpha from 0 to 8
GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GuidanceVariant:
    """One way to guide: the rule without its coefficient, and what the prior is."""

    space: str
    prior: str
    mean: bool
    tokens: str = "log_probability"

    def rule(self, guidance: float) -> Rule:
        """The rule with coefficient `guidance`."""
        return Rule("cfg", guidance, self.space, self.mean, self.tokens)


GUIDANCE_VARIANTS: Mapping[str, GuidanceVariant] = {
    "paper": GuidanceVariant("probability", "no_image", True),
    "official": GuidanceVariant("log", "dataset_mean", False),
    "clean": GuidanceVariant("log", "no_image", False),
    "literal": GuidanceVariant("probability", "no_image", True, "probability"),
}


def variant_of(protocol: ProtocolConfig) -> tuple[str, GuidanceVariant]:
    """The name and the variant of a protocol's guidance settings; named `own` if not in `GUIDANCE_VARIANTS`."""
    own = GuidanceVariant(protocol.cfg_form, protocol.cfg_prior, protocol.cfg_mean, protocol.token_scores)
    return next((name for name, variant in GUIDANCE_VARIANTS.items() if variant == own), "own"), own


@dataclass(frozen=True, slots=True)
class Scored:
    """Stored scores: `sums` (N, K) of log-probabilities by name, `probability_sums` (N, K) if stored,
    `correct` (N, K) which class is correct, `tuning` (N,) which items choose t.
    """

    sums: Floats
    probability_sums: Floats | None
    correct: Flags
    tuning: Flags
    table: ClassScoreTable


def selects_t(item_id: str) -> bool:
    """Whether an item is of the half on which t is chosen: drawn by its id alone."""
    return sha256(f"{SEED}:guidance:{item_id}".encode()).digest()[0] % 2 == 0


def scored_items(predictions: Sequence[Prediction], table: ClassScoreTable, protocol: ProtocolConfig = PLAIN) -> Scored:
    """Stored lines as arrays; lines without scores or without a label are left out.

    Raises `RunError` if none is left, `DataError` as `ItemLabels`.
    """
    labels = ItemLabels(protocol)
    labels.prepare(predictions)
    lines = [p for p in predictions if p.scores is not None and labels.of(p)]
    if not lines:
        raise RunError("no answer has stored scores; run an evaluation of task class_likelihood first")
    names = np.array(table.names)
    correct = np.stack([_right(names, labels.of(p), protocol.duplicates) for p in lines])
    tuning = np.array([selects_t(p.id) for p in lines])
    both = table.prior_probabilities and all(p.probabilities is not None for p in lines)
    probability_sums = np.stack([stored_sums(p, Rule(tokens="probability")) for p in lines]) if both else None
    return Scored(np.stack([stored_sums(p, Rule()) for p in lines]), probability_sums, correct, tuning, table)


def _right(names: "NDArray[np.str_]", labels: Sequence[str], duplicates: str) -> Flags:
    """(K,) which classes are right: those called as one of `labels`, or only the first of each name."""
    if duplicates == "any":
        return np.isin(names, list(labels))
    flags = np.zeros(len(names), dtype=bool)
    flags[[names.tolist().index(label) for label in labels]] = True
    return flags


def correct_items(
    scored: Scored, variant: GuidanceVariant, grid: Sequence[float], prior_items: Flags
) -> NDArray[np.bool_]:
    """(T, N): is the best class of an item correct at each coefficient; `prior_items` make a prior over images."""
    sums = scored.probability_sums if variant.tokens == "probability" else scored.sums
    assert sums is not None  # `guidance_results` sweeps what is stored
    prior = scored.table.prior_of(variant.rule(1.0))
    if variant.prior == "dataset_mean":
        prior = sums[prior_items].mean(0)
    rows = []
    for guidance in grid:
        best = rule_scores(variant.rule(guidance), sums, scored.table.lengths, prior).argmax(1)
        rows.append(scored.correct[np.arange(len(best)), best])
    return np.stack(rows)


def sweep(scored: Scored, variant: GuidanceVariant) -> dict[str, Any]:
    """One variant: t chosen on one half and what it gives on the other, and the authors' way on all items."""
    halves = scored.tuning, ~scored.tuning
    everything = np.ones(len(scored.tuning), dtype=bool)
    authors = correct_items(scored, variant, AUTHORS, everything).sum(1)
    swept: dict[str, Any] = {
        "form": variant.space,
        "prior": variant.prior,
        "mean": variant.mean,
        "tokens": variant.tokens,
        "held_out": None,
        "swept_on_test": {
            "guidance": AUTHORS[int(authors.argmax())],
            "accuracy": Rate(int(authors.max()), len(everything)).to_json(),
        },
    }
    if all(half.any() for half in halves):
        rows = correct_items(scored, variant, GRID, halves[0])
        best = int(rows[:, halves[0]].sum(1).argmax())  # of equal ones the smallest
        swept["held_out"] = {
            "guidance": GRID[best],
            "chosen_on": int(halves[0].sum()),
            "accuracy": Rate(int(rows[best, halves[1]].sum()), int(halves[1].sum())).to_json(),
        }
        swept["curve"] = [[t, float(row.mean())] for t, row in zip(GRID, rows, strict=True)]
    return swept


def guidance_results(folder: EvalDir) -> dict[str, Any]:
    """All variants for the answers in `folder`: the content of guidance.json.

    `own` names the variant of their protocol; it is not among the `forms` if what it sums was not stored.

    Raises `RunError` if no class scores are stored there.
    """
    evaluation = evaluation_of(folder)
    lines = list(records_of(folder, evaluation).predictions.values())
    settings = evaluation.settings
    protocol = protocol_of(settings)
    scored = scored_items(lines, read_class_scores(folder), protocol)
    own, variant = variant_of(protocol)
    return {
        "name": evaluation.name,
        "model": evaluation.model,
        "label": evaluation.label,
        "source": evaluation.source,
        "protocol": settings | {"name": _name(evaluation), "hash": evaluation.protocol_hash},
        "paper": None,
        "items": len(scored.tuning),
        "own": own,
        "forms": {
            name: sweep(scored, variant)
            for name, variant in {**GUIDANCE_VARIANTS, own: variant}.items()
            if variant.tokens == "log_probability" or scored.probability_sums is not None
        },
    }


def _name(evaluation: Evaluation) -> str:
    return str(dict(evaluation.config["protocol"]).get("name", "custom"))
