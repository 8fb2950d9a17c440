"""Guidance with a swept coefficient, against a slow reference that follows the formulas name by name."""

import base64
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from configs.protocol import ProtocolConfig
from eval.class_scores.table import ClassScoreTable, encode_scores
from eval.metrics.guidance import (
    AUTHORS,
    GRID,
    GUIDANCE_VARIANTS,
    correct_items,
    scored_items,
    selects_t,
    sweep,
    variant_of,
)
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

NAMES = ("tench", "wild dog", "cat", "cat", "moss")
LENGTHS = (1, 3, 2, 2, 1)
PRIOR = (-1.5, -9.0, -3.0, -3.0, -2.5)
LITERAL_PRIOR = (0.3, 1.1, 0.6, 0.6, 0.2)
ITEMS = 40


@pytest.fixture(scope="module")
def lines() -> list[Prediction]:
    """Random scores that lean towards the right class."""
    rng = np.random.default_rng(3)
    made = []
    for number in range(ITEMS):
        target = NAMES[int(rng.integers(len(NAMES)))]
        sums = rng.normal(PRIOR, 2.0) + [1.0 * (name == target) for name in NAMES]
        literal = rng.uniform(0.05, 1.0, len(NAMES)) * LENGTHS
        sums[3], literal[3] = sums[2], literal[2]  # a shared name has a shared score
        stored = {"scores": encode_scores(np.minimum(sums, -0.01)), "probabilities": encode_scores(literal)}
        made.append(stored_answer(f"item/{number}", "", target, **stored))
    return made


def slow_right(line: Prediction, form: str, t: float, prior: list[float], duplicates: str) -> bool:
    """The formulas of Section 3.1 (and of the authors' code), one class at a time."""
    stored = line.probabilities if "literal" in form else line.scores
    sums = np.frombuffer(base64.b64decode(stored), dtype="<f4").tolist()
    best, best_score = -1, -math.inf
    for index in range(len(NAMES)):
        if form == "paper":
            p, q = math.exp(sums[index] / LENGTHS[index]), math.exp(prior[index] / LENGTHS[index])
        elif form in ("literal", "mixed"):  # the mean of the tokens' probabilities, or of their logarithms
            p, q = sums[index] / LENGTHS[index], prior[index] / LENGTHS[index]
        elif form == "mixed literal":  # the logarithm of summed probabilities
            p, q = math.log(sums[index]), math.log(prior[index])
        else:
            p, q = sums[index], prior[index]
        if t * p + (1 - t) * q > best_score + 1e-12:
            best, best_score = index, t * p + (1 - t) * q
    return best == NAMES.index(line.target) if duplicates == "first" else NAMES[best] == line.target


def slow_prior(lines: list[Prediction], form: str) -> list[float]:
    if form == "mixed literal":
        rows = [np.frombuffer(base64.b64decode(line.probabilities), dtype="<f4").tolist() for line in lines]
        return [sum(row[index] for row in rows) / len(rows) for index in range(len(NAMES))]
    if form != "official":
        return list(LITERAL_PRIOR if form == "literal" else PRIOR)
    rows = [np.frombuffer(base64.b64decode(line.scores), dtype="<f4").tolist() for line in lines]
    return [sum(row[index] for row in rows) / len(rows) for index in range(len(NAMES))]


def slow_sweep(lines: list[Prediction], form: str) -> tuple[float, int, int, float, int]:
    """(t chosen on one half, right on the other, how many, t swept on all, right of all)."""
    tuning = [line for line in lines if selects_t(line.id)]
    others = [line for line in lines if not selects_t(line.id)]
    prior = slow_prior(tuning, form)

    def right(part: list[Prediction], t: float, prior: list[float]) -> int:
        return sum(slow_right(line, form, t, prior, "any") for line in part)

    chosen = max(GRID, key=lambda t: (right(tuning, t, prior), -t))
    whole = slow_prior(lines, form)
    authors = max(AUTHORS, key=lambda t: (right(lines, t, whole), -t))
    return chosen, right(others, chosen, prior), len(others), authors, right(lines, authors, whole)


MIXED = {
    "mixed": ProtocolConfig(name="clean", cfg_form="log", cfg_mean=True),
    "mixed literal": ProtocolConfig(cfg_form="log", cfg_prior="dataset_mean", token_scores="probability"),
}


@pytest.mark.parametrize("form", [*GUIDANCE_VARIANTS, *MIXED])
def test_both_numbers_are_those_of_the_slow_reference(lines, form):
    swept = GUIDANCE_VARIANTS[form] if form in GUIDANCE_VARIANTS else variant_of(MIXED[form])[1]
    found = sweep(scored_items(lines, ClassScoreTable(NAMES, LENGTHS, PRIOR, LITERAL_PRIOR)), swept)
    held, authors = found["held_out"], found["swept_on_test"]
    told = (
        held["guidance"], held["accuracy"]["count"], held["accuracy"]["n"],
        authors["guidance"], authors["accuracy"]["count"],
    )  # fmt: skip
    assert told == slow_sweep(lines, form)
    assert held["chosen_on"] + held["accuracy"]["n"] == authors["accuracy"]["n"] == ITEMS


def test_t_one_is_no_guidance_and_only_the_first_of_a_shared_name_may_count(lines):
    table = ClassScoreTable(NAMES, LENGTHS, PRIOR, LITERAL_PRIOR)
    scored, first = scored_items(lines, table), scored_items(lines, table, ProtocolConfig(duplicates="first"))
    plain = np.array([slow_right(line, "clean", 1.0, list(PRIOR), "any") for line in lines])
    everything = np.ones(ITEMS, dtype=bool)
    assert (correct_items(scored, GUIDANCE_VARIANTS["clean"], [1.0], everything)[0] == plain).all()
    assert first.correct.sum() < scored.correct.sum()


def test_the_half_that_chooses_is_drawn_by_id_and_the_answers_of_the_other_change_nothing(lines):
    table = ClassScoreTable(NAMES, LENGTHS, PRIOR, LITERAL_PRIOR)
    before = sweep(scored_items(lines, table), GUIDANCE_VARIANTS["official"])["held_out"]
    spoiled = [line if selects_t(line.id) else _spoiled(line) for line in lines]
    after = sweep(scored_items(spoiled, table), GUIDANCE_VARIANTS["official"])["held_out"]
    assert after["guidance"] == before["guidance"]
    assert after["accuracy"]["count"] != before["accuracy"]["count"]  # they were really changed


def _spoiled(line: Prediction) -> Prediction:
    wrong = [0.0 if name != line.target else -50.0 for name in NAMES]
    return replace(line, scores=encode_scores(np.array(wrong)))


def test_one_item_has_no_other_half(lines):
    found = sweep(
        scored_items(lines[:1], ClassScoreTable(NAMES, LENGTHS, PRIOR, LITERAL_PRIOR)), GUIDANCE_VARIANTS["paper"]
    )
    assert found["held_out"] is None
    assert json.dumps(found)


def test_the_form_of_a_protocol_is_recognised_by_its_settings_and_not_by_its_name():
    authors = ProtocolConfig(name="official_finetuned", cfg_form="log", cfg_prior="dataset_mean")
    assert variant_of(authors) == ("official", GUIDANCE_VARIANTS["official"])
    assert variant_of(ProtocolConfig(name="official", cfg_mean=True))[0] == "paper"
    assert variant_of(ProtocolConfig(cfg_form="log"))[0] == "clean"


@pytest.mark.parametrize("protocol", [*MIXED.values(), ProtocolConfig()])
def test_a_mixture_is_a_separate_form(protocol):
    name, variant = variant_of(protocol)
    assert name == "own"
    assert variant not in GUIDANCE_VARIANTS.values()
    rule = variant.rule(2.0)
    assert (rule.form, rule.guided_mean, rule.tokens) == (
        protocol.cfg_form,
        protocol.cfg_mean,
        protocol.token_scores,
    )
    assert variant.prior == protocol.cfg_prior
