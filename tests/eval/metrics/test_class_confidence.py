"""What a report says of stored class scores, against an independent reference that ranks names one by one."""

import json
import math

import numpy as np
import pytest

from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.class_scores.table import ClassScoreTable, decode_scores, encode_scores, stored_bytes, write_class_scores
from eval.metrics.class_confidence import class_score_results
from eval.metrics.outcomes import scored_predictions
from eval.reports.class_score_blocks import class_score_blocks
from tests.eval.stored_answers import stored_answer

NAMES = ("tench", "wild dog", "cat", "moss", "cat", "bark", "zebra", "bra")
LENGTHS = (1, 3, 2, 1, 2, 1, 1, 1)


def prediction(number, target, scores):
    return stored_answer(f"item/{number}", target, target, scores=encode_scores(np.asarray(scores)))


@pytest.fixture
def stored(tmp_path):
    """(folder, settings of its protocol) of class scores of `NAMES`."""
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps(list(NAMES)))
    folder = EvalDir(tmp_path / "answers")
    write_class_scores(folder, ClassScoreTable(NAMES, LENGTHS, (-2.0,) * len(NAMES), logit_scale=20.0))
    return folder, {"classes": str(classes)}


@pytest.fixture
def lines():
    rng = np.random.default_rng(7)
    made = []
    for number in range(90):
        target = NAMES[int(rng.integers(len(NAMES)))]
        scores = rng.normal(-4, 1.5, len(NAMES)) + [1.2 * (name == target) for name in NAMES]
        scores[4] = scores[2]  # a shared name has a shared score
        made.append(prediction(number, target, scores))
    return made


def results(stored, lines, **settings):
    folder, classes = stored
    config = ProtocolConfig(**{"task": "class_likelihood", **classes, **settings})
    return class_score_results(folder, lines, scored_predictions(folder, lines, config, ""), config)


def names_by_score(line, rule):
    """The distinct names, the best first, by plain Python."""
    divide = LENGTHS if rule == "mean" else (1,) * len(NAMES)
    by_name = {}
    for name, score, length in zip(NAMES, decode_scores(line.scores).tolist(), divide, strict=True):
        by_name.setdefault(name, score / length)
    return sorted(by_name, key=lambda name: (-by_name[name], NAMES.index(name))), by_name


@pytest.mark.parametrize("rule", ["sum", "mean"])
def test_top_5_and_confidences_are_those_of_a_ranking_name_by_name(stored, lines, rule):
    found = results(stored, lines, rule=rule)
    ranked = [names_by_score(line, rule) for line in lines]
    assert found["top"]["count"] == sum(
        line.target in order[:5] for line, (order, _) in zip(lines, ranked, strict=True)
    )
    assert 60 < found["top"]["count"] < 90, "the case distinguishes nothing"
    best = [math.exp(by[order[0]]) / sum(map(math.exp, by.values())) for order, by in ranked]
    assert found["own"]["mean_confidence"] == pytest.approx(sum(best) / len(best), rel=1e-5)
    assert found["candidates"] == found["classes"] == 7, "a shared name counts once"
    right = sum(order[0] == line.target for line, (order, _) in zip(lines, ranked, strict=True))
    assert found["own"]["accuracy"]["count"] == right


def test_the_fitted_temperature_is_measured_on_the_other_half(stored, lines):
    fitted = results(stored, lines)["fitted"]
    assert fitted["fitted_on"] + fitted["n"] == len(lines) and fitted["n"] == fitted["aurc"]["n"]
    assert "too few" in results(stored, lines[:30])["fitted"]["reason"]


@pytest.mark.slow  # imports matplotlib
def test_among_five_candidates_there_is_no_top_5_and_the_page_says_that_the_numbers_are_about_them(stored, lines):
    found = results(stored, lines, candidates=5)
    assert found["top"] is None and found["candidates"] == 5
    text = "\n".join(str(block) for block in class_score_blocks({"class_scores": found}))
    assert "its 5 candidates of 7 classes: these numbers are not comparable" in text and "top-5 accuracy" not in text


def test_guidance_in_probability_space_has_no_confidence_until_a_temperature_is_set_or_fitted(stored, lines):
    found = results(stored, lines, rule="cfg")
    assert found["own"] is None and "no logarithms" in found["temperature_is"]
    assert found["fitted"]["temperature"] > 0
    text = "\n".join(
        str(block) for block in class_score_blocks({"class_scores": found | {"fitted": {"reason": "few"}}})
    )
    assert "ECE, temperature" not in text and "protocol.temperature sets one" in text
    assert results(stored, lines, rule="cfg", temperature=0.5)["own"]["n"] == len(lines)


def test_cosines_use_the_models_own_scale(stored, lines):
    cosines = [prediction(n, line.target, decode_scores(line.scores) / 40) for n, line in enumerate(lines)]
    found = results(stored, cosines, task="zero_shot")
    assert found["temperature"] == pytest.approx(1 / 20) and found["temperature_is"] == "the model's own"


def test_a_name_matched_in_another_counts_in_the_top_5_if_it_counts_in_the_top_1(stored):
    best = [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.0]  # tench, then zebra; bra is the last
    cosines = [prediction(number, "bra", best) for number in range(4)]
    assert results(stored, cosines, task="zero_shot")["top"]["count"] == 0
    assert results(stored, cosines, task="zero_shot", class_match="match")["top"]["count"] == 4


def test_answers_without_class_scores_have_no_such_section(stored, lines):
    folder, _ = stored
    config = ProtocolConfig()
    assert class_score_results(folder, lines, scored_predictions(folder, lines, config, ""), config) is None
    assert class_score_blocks({"class_scores": None}) == []


def test_the_bytes_of_an_item_follow_from_the_number_of_classes():
    for classes in (1, 2, 3, 10, 1000):
        assert stored_bytes(classes) == len(encode_scores(np.zeros(classes)))
