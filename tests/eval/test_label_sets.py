"""protocol.labels: an answer is right if it is one of its image's labels, in every task and in every number."""

import json
from dataclasses import replace

import numpy as np
import pytest

from configs.errors import ConfigError, DataError, RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.class_scores.table import ClassScoreTable, encode_scores, write_class_scores
from eval.grade import main as grade
from eval.metrics.guidance import scored_items
from eval.metrics.outcomes import read_points, scored_predictions
from eval.reports.evaluation import write_report
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

NAMES = ("tench", "cat", "dog", "fox")
LABELS = {"a": ["tench", "cat"], "b": ["dog"], "c": [], "d": ["fox"]}


def prediction(name: str, target: str = "tench", answer: str = "tench", **more: object) -> Prediction:
    return stored_answer(name, answer, target, label=NAMES.index(target), **more)


@pytest.fixture
def protocol(tmp_path):
    def make(labels=LABELS, **settings):
        (tmp_path / "labels.json").write_text(json.dumps(labels))
        (tmp_path / "names.json").write_text(json.dumps(NAMES))
        return ProtocolConfig(labels=str(tmp_path / "labels.json"), classes=str(tmp_path / "names.json"), **settings)

    return make


def answered_items(folder: EvalDir) -> list[str]:
    return [json.loads(line)["id"] for line in folder.predictions(0).read_text().splitlines()]


def outcomes(tmp_path, config, predictions):
    scored = scored_predictions(EvalDir(tmp_path), predictions, config, "")
    return {found.id: (score.value, found.label_name, found.label) for found, score in scored}


@pytest.mark.parametrize("task", ["open_world", "closed_world"])
def test_a_text_is_right_if_it_names_any_label_and_an_image_without_one_is_left_out(tmp_path, protocol, task):
    answers = [
        prediction("a", "tench", "It is a cat"),
        prediction("b", "tench", "tench"),
        prediction("c", "tench", "tench"),
        prediction("d", "dog", "a fox"),
    ]
    assert outcomes(tmp_path, protocol(task=task), answers) == {
        "a": (True, "tench", 0),
        "b": (False, "dog", 2),
        "d": (True, "fox", None),  # no item of the source has this class, so its index there is not known
    }


def test_synonyms_of_every_label_are_accepted(tmp_path, protocol):
    (tmp_path / "synonyms.json").write_text('{"cat": ["kitten"], "tench": ["doctor fish"]}')
    config = protocol(synonyms=str(tmp_path / "synonyms.json"))
    assert outcomes(tmp_path, config, [prediction("a", answer="a kitten"), prediction("b", answer="doctor fish")]) == {
        "a": (True, "tench", 0),
        "b": (False, "dog", None),
    }


def test_an_answer_that_names_two_labels_of_one_image_names_only_right_ones(tmp_path, protocol):
    config = protocol(match="name")
    answers = [prediction("a", answer="a cat and a tench"), prediction("b", "dog", "a dog and a tench")]
    assert [value for value, _, _ in outcomes(tmp_path, config, answers).values()] == [True, False]


@pytest.mark.parametrize("task", ["class_likelihood", "zero_shot"])
def test_a_class_with_the_highest_score_is_right_if_it_is_one_of_the_labels(tmp_path, protocol, task):
    write_class_scores(EvalDir(tmp_path), ClassScoreTable(NAMES, (1,) * 4, (0.0,) * 4))
    rows = {"a": [0.1, 0.9, 0.2, 0.0], "b": [0.9, 0.1, 0.2, 0.0], "c": [0.9, 0, 0, 0], "d": [0.0, 0.1, 0.2, 0.9]}
    answers = [prediction(name, scores=encode_scores(np.array(row))) for name, row in rows.items()]
    scored = scored_predictions(EvalDir(tmp_path), answers, protocol(task=task), "")
    assert {p.id: score.value for p, score in scored} == {"a": True, "b": False, "d": True}
    assert scored[0][1].reason == "best of 4 by sum; the best of 2 labels is number 1"
    assert scored[1][1].reason == "best of 4 by sum; the label is number 2"


def test_guidance_counts_the_same_classes_as_right(tmp_path, protocol):
    table = ClassScoreTable(NAMES, (1,) * 4, (0.0,) * 4)
    answers = [prediction(name, scores=encode_scores(np.zeros(4))) for name in LABELS]
    assert scored_items(answers, table, protocol()).correct.tolist() == [
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


@pytest.mark.parametrize(("policy", "kept"), [("keep", {"a", "x"}), ("leave_out", {"a"})])
def test_items_that_the_file_lacks_are_refused_kept_or_left_out(tmp_path, protocol, policy, kept):
    answers = [prediction("a"), prediction("x")]
    with pytest.raises(DataError, match=r"has no labels of 1 of 2 items \(x\); keep their own labels"):
        outcomes(tmp_path, protocol(), answers)
    assert outcomes(tmp_path, protocol(labels_missing=policy), answers).keys() == kept
    with pytest.raises(DataError, match="no id of the file is that of an item"):
        outcomes(tmp_path, protocol({"other": ["cat"]}, labels_missing=policy), answers)


@pytest.mark.parametrize("task", ["multiple_choice", "vqa", "yes_no", "graded"])
def test_tasks_that_are_not_scored_by_classes_have_no_label_sets(protocol, task):
    with pytest.raises(ConfigError, match=f"task {task} is not scored by classes"):
        protocol(task=task)


@pytest.mark.slow
def test_the_report_counts_what_is_left_out_and_what_the_sets_change(store_answers, tmp_path, capsys):
    folder, config, file = store_answers({"tench": ["tench", "cat", "tench"], "cat": ["cat", "tench"]})
    sets = {
        "tench/0": ["tench"],
        "tench/1": ["tench", "cat"],
        "tench/2": [],
        "cat/0": "tench",
        "cat/1": ["cat", "tench"],
    }
    path = tmp_path / "real.json"
    path.write_text(json.dumps(sets))
    before = write_report(folder, config)
    assert (before["accuracy"]["count"], before["accuracy"]["n"], before["label_sets"]) == (3, 5, None)
    relabelled = replace(config, protocol=replace(config.protocol, labels=str(path)))
    report = write_report(folder, relabelled)
    assert (report["accuracy"]["count"], report["accuracy"]["n"]) == (3, 4)
    assert report["items"]["missing"] == 0
    assert report["label_sets"] | {"file": ""} == {
        "file": "", "labelled": 4, "unlabelled": 1, "several": 2, "changed": 1, "no_candidate": 0, "mean_labels": 1.5
    }  # fmt: skip
    classes = {row["name"]: (row["correct"], row["wrong"]) for row in report["classes"]}
    assert classes == {"tench": (2, 1), "cat": (1, 0)}
    assert report["protocol"]["hash"] != before["protocol"]["hash"]
    page = folder.report("html").read_text()
    assert "Answered images without a label there: 1" in page and "right names" in page
    assert len(read_points(folder, {"labels": str(path)})) == 4
    path.write_text(json.dumps(sets | {"tench/2": ["tench"]}))
    with pytest.raises(RunError, match=r"real\.json, a file that is gone or has changed since the report was made"):
        read_points(folder)
    path.write_text(json.dumps(sets))
    grade(["--config", str(file), "--grader", "contains", "--set", f"protocol.labels={path}"])
    assert "75.0 % correct (30.1 to 95.4 %, n = 4), 0.0 % without an answer, 1 left out without a label" in (
        printed := capsys.readouterr().out
    )
    assert "grader contains: 75.0 % correct" in printed


@pytest.mark.slow
def test_items_whose_candidates_hold_no_label_are_counted(store_answers, tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(["tench", "wild_dog", "cat"]))
    protocol = {"task": "closed_world", "classes": str(tmp_path / "classes.json"), "candidates": 2}
    folder, config, _ = store_answers({"tench": ["tench"] * 5}, protocol=protocol)
    path = tmp_path / "clean.json"
    path.write_text(json.dumps(dict.fromkeys(answered_items(folder), "cat")))
    report = write_report(folder, replace(config, protocol=replace(config.protocol, labels=str(path))))
    assert report["label_sets"]["no_candidate"] == sum("cat" not in e["candidates"] for e in report["examples"]) > 0
    assert "images cannot be answered correctly" in folder.report("html").read_text()
