"""The accuracy that is shown while a model answers is that of the report."""

import io
import json

import numpy as np
import pytest

from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep import progress as bars
from eval.class_scores.table import ClassScoreTable, encode_scores, write_class_scores
from eval.runner.progress import EvalProgress
from eval.tasks.candidates import shown_candidates
from eval.tasks.class_likelihood import ClassLikelihood
from eval.tasks.registry import make_task
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

NAMES = ("ant", "bee", "cow")


@pytest.fixture
def scored(tmp_path):
    """A folder with the table of scores, and the protocol of its classes under further settings."""
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps(NAMES))
    folder = EvalDir(tmp_path / "eval")
    write_class_scores(folder, ClassScoreTable(NAMES, (1, 1, 1), (0.0, 0.0, 0.0)))
    return folder, lambda **more: ProtocolConfig(task="class_likelihood", prompt="paper", classes=str(classes), **more)


def answer(item: str, target: str, scores: tuple[float, ...]) -> Prediction:
    best = NAMES[int(np.argmax(scores))]
    return stored_answer(item, best, target, label=NAMES.index(target), scores=encode_scores(np.array(scores)))


def test_while_names_are_scored_an_item_is_right_if_its_label_is_the_best_of_its_candidates(scored):
    folder, protocol = scored
    config = protocol(candidates=2)
    item = next(str(n) for n in range(50) if 0 not in shown_candidates(config, NAMES, "bee", str(n), None))
    prediction = answer(item, "bee", (-1.0, -2.0, -3.0))  # the best of all is ant, which is no candidate
    task, all_classes = ClassLikelihood(config), ClassLikelihood(protocol())
    assert task.begin(folder)
    assert all_classes.begin(folder)
    assert task.score(prediction).value is True
    assert all_classes.score(prediction).value is False


def test_with_the_mean_over_all_images_as_the_prior_nothing_is_scored_before_the_end(scored, capsys):
    folder, protocol = scored
    assert not ClassLikelihood(protocol(rule="cfg", cfg_prior="dataset_mean")).begin(folder)
    with EvalProgress("name", 1, 0) as shown:
        shown.add(True, counted=False)
    said = capsys.readouterr().err.strip()
    assert said.endswith("nothing scored yet")


def test_items_without_a_label_are_left_out_of_the_accuracy():
    shown = EvalProgress("name", 3, 0)
    for value, counted in ((True, True), (False, False), (None, True)):
        shown.add(value, counted=counted)
    assert "accuracy 50.0%" in shown.line()


def test_an_answer_with_part_of_a_point_counts_that_part_as_in_the_report():
    """VQA accuracy: three of ten people gave this answer."""
    shown, task = EvalProgress("name", 3, 0), make_task(ProtocolConfig(task="vqa", prompt="paper"))
    for text in ("dog", "cat", ""):
        references = ("dog",) * 2 + ("cow",) * 8
        shown.add(task.score(stored_answer("a", text, "cow", references=references)).points_if_answered)
    assert "accuracy 20.0%" in shown.line()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_bar_is_not_repeated_as_a_line_and_slow_units_have_no_blank_before_them(monkeypatch):
    monkeypatch.setattr(bars.sys, "stderr", terminal := Terminal())
    with EvalProgress("name", 1, 0) as shown:
        shown.add(True)
    assert "1/1" in terminal.getvalue()
    assert "answered" not in terminal.getvalue()
    slow = bars.progress_bar(name="x", unit="items", total=9).format_meter(2, 9, 7.0, unit=" items")
    assert "3.50 s/items" in slow
    assert "2.00 items/s" in bars.progress_bar(name="x", unit="items").format_meter(2, 9, 1.0, unit=" items")
