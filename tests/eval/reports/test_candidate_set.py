"""What a report says of candidates and rules."""

import json

import numpy as np
import pytest

from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.class_scores.table import ClassScoreTable, encode_scores, write_class_scores
from eval.metrics.outcomes import scored_predictions
from eval.reports.candidate_set import candidate_set, candidates_of, scored_answer
from eval.reports.evaluation_page import _candidate_set
from eval.types import Score
from tests.eval.stored_answers import stored_answer

NAMES = ["tench", "wild dog", "cat", "red moss"]


@pytest.fixture
def protocol(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(NAMES))

    def make(task="class_likelihood", **settings):
        return ProtocolConfig(task=task, classes=str(tmp_path / "names.json"), **settings)

    return make


def prediction(**changed):
    return stored_answer(**{"item": "a/1", "answer": "tench", "target": "cat", "label": 2, **changed})


def test_the_rule_is_said_in_words(protocol):
    def rule(**settings):
        return candidate_set(protocol(**settings))["rule"]

    assert rule() == "the highest sum of token log-probabilities (rule: sum)"
    assert rule(rule="mean", token_scores="probability") == "the highest mean of token probabilities (rule: mean)"
    assert "guided (coefficient 1.5, log form, prior no_image)" in rule(rule="cfg", cfg_form="log")
    assert rule(task="zero_shot").startswith("the highest cosine")
    assert rule(task="closed_world", match="name").endswith("protocol.match name")


def test_the_draw_is_said_and_a_task_without_a_list_has_none(protocol):
    assert candidate_set(protocol())["chosen"] == "all classes of the list"
    assert "drawn by the item's id" in candidate_set(protocol(candidates=2))["chosen"]
    assert "one random stream" in candidate_set(protocol(candidates=2, candidate_draw="stream"))["chosen"]
    assert "in the list's order" in candidate_set(protocol("closed_world", candidates=2, order="fixed"))["chosen"]
    assert candidate_set(ProtocolConfig()) is None


def test_the_candidates_of_an_item_are_those_it_was_shown(protocol):
    drawn = candidates_of(protocol("closed_world", candidates=3), prediction())
    assert len(drawn) == 3
    assert "cat" in drawn
    assert candidates_of(protocol("closed_world", candidates=3), prediction()) == drawn
    assert candidates_of(protocol(), prediction()) is None
    assert candidates_of(protocol(candidates=3), prediction(target="unknown")) is None


def test_an_answer_by_scores_is_the_one_that_was_scored_and_a_text_stays(protocol):
    score = Score(True, "cat", "")
    assert scored_answer(protocol(), prediction(), score) == "cat"
    assert scored_answer(protocol("closed_world"), prediction(), score) == "tench"


def test_classes_of_one_name_count_as_one_in_the_report_and_at_each_item(protocol, tmp_path):
    names = ["missile", "cat", "missile", "dog"]
    (tmp_path / "names.json").write_text(json.dumps(names))
    found = candidate_set(protocol())
    assert (found["classes"], found["candidates"], found["listed"]) == (3, 3, 4)
    (text,) = _candidate_set({"candidate_set": found})
    assert "among 3 of 3 classes (the list has 4; those that share a name count as one)" in text.text
    write_class_scores(EvalDir(tmp_path), ClassScoreTable(tuple(names), (1,) * 4, (0.0,) * 4))
    answer = prediction(target="cat", label=1, scores=encode_scores(np.array([0.9, 0.5, 0.9, 0.1])))
    ((_, score),) = scored_predictions(EvalDir(tmp_path), [answer], protocol(), None)
    assert score.reason == "best of 3 by sum; the label is number 2"
