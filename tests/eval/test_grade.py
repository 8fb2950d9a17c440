"""eval.grade: stored answers are graded a second time, once each, next to the protocol's score."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.page import Table
from eval.grade import main
from eval.graders import registry
from eval.graders.types import OUTCOMES, RIGHT, Grade, StoredAnswer
from eval.paper.published import paper_numbers
from eval.paper.results import collect
from eval.reports.comparison import read_reports, write_comparison
from eval.run import main as evaluate
from eval.types import Failure

pytestmark = pytest.mark.slow

ANSWERS = {"tench": ["tench", "a TENCHER", "a cat", ""], "cat": ["cat", "a dog"]}


def report_of(folder) -> dict[str, Any]:
    return json.loads(folder.report("json").read_text())


def test_each_grader_has_a_row_and_the_protocols_accuracy_stays(store_answers, capsys):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "contains", "word", "exact"])
    report = report_of(folder)
    assert report["accuracy"]["count"] == 3
    assert {entry["grader"]: entry["accuracy"]["count"] for entry in report["grades"]} == {
        "contains": 3,
        "word": 2,
        "exact": 2,
    }
    word = report["grades"][2]
    assert word["outcomes"]["no answer"]["count"] == 1
    assert word["agreement"] | {"rate": None} == {
        "n": 6, "rate": None, "kappa": pytest.approx(2 / 3), "both": 2, "first_only": 0, "second_only": 1, "neither": 3
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "grader word: 33.3 % correct (9.7 to 70.0 %, n = 6)" in printed
    assert "agrees with the protocol on 83.3 %" in printed
    page = folder.report("html").read_text()
    assert "Graders" in page and "protocol custom" in page


def test_the_report_of_a_later_evaluation_keeps_the_rows(store_answers):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "word"])
    evaluate(["--config", str(file), "--report-only"])
    assert [entry["grader"] for entry in report_of(folder)["grades"]] == ["word"]


def test_json_has_the_numbers_and_a_dry_run_writes_nothing(store_answers, capsys):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "word", "--dry-run"])
    assert "word: 0 of 6 answers have a grade; right if" in capsys.readouterr().out
    assert not folder.graders()
    main(["--config", str(file), "--set", "grading.graders=[word]", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["grades"][0]["accuracy"]["count"] == 2


class Counting:
    """Right if the answer is longer than `SHORTEST`; fails at the answers in `failing`, and counts what it grades."""

    outcomes: Sequence[str] = OUTCOMES
    uses_question = True
    about = "right if the answer is long"
    shortest = 2
    graded: ClassVar[list[str]] = []
    failing: ClassVar[set[str]] = set()
    questions: ClassVar[list[str]] = []

    def __init__(self, config: EvalConfig):
        pass

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"shortest": self.shortest}

    def grade(self, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, Grade | Failure]]:
        for answer in answers:
            self.graded.append(answer.text)
            self.questions.append(answer.question)
            failed = answer.text in self.failing
            yield answer, Failure("timed out") if failed else Grade(RIGHT, "long", score=0.5, flags=("long",))


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setitem(registry.GRADERS, "counting", f"{__name__}:Counting")
    monkeypatch.setattr(registry, "import_module", lambda name: __import__("types").SimpleNamespace(Counting=Counting))
    for name, value in (("graded", []), ("failing", set()), ("questions", []), ("shortest", 2)):
        monkeypatch.setattr(Counting, name, value)
    return Counting


def test_a_graded_answer_is_not_graded_again_but_a_failed_one_is(store_answers, counting, capsys):
    folder, _, file = store_answers(ANSWERS)
    counting.failing = {"cat"}
    main(["--config", str(file), "--grader", "counting"])
    assert len(counting.graded) == 6
    entry = report_of(folder)["grades"][0]
    assert entry["items"] == {"answers": 6, "graded": 5, "failed": 1, "missing": 0, "stale": 0}
    assert entry["accuracy"]["n"] == entry["mean_score"]["n"] == entry["flags"]["long"]["count"] == 5
    assert "1 of 6 answers could not be graded" in capsys.readouterr().out
    counting.failing = set()
    main(["--config", str(file), "--grader", "counting"])
    assert counting.graded[6:] == ["cat"]
    assert report_of(folder)["grades"][0]["items"]["failed"] == 0
    assert set(counting.questions) == {"What type of object is in this photo?"}


def test_a_torn_line_and_a_changed_answer_are_graded_again(store_answers, counting):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "counting"])
    path = folder.grades("counting")
    path.write_text(path.read_text()[:-5])
    predictions = folder.predictions(0)
    predictions.write_text(predictions.read_text().replace('"a dog"', '"a fox"'))
    evaluate(["--config", str(file), "--report-only"])
    assert report_of(folder)["grades"][0]["items"] == {
        "answers": 6, "graded": 4, "failed": 0, "missing": 2, "stale": 1
    }  # fmt: skip
    assert "were graded when they were other answers" in folder.report("html").read_text()
    counting.graded.clear()
    main(["--config", str(file), "--grader", "counting"])
    assert len(counting.graded) == 2 and "a fox" in counting.graded
    assert report_of(folder)["grades"][0]["items"]["missing"] == 0


def test_a_grade_among_other_classes_is_given_again(store_answers):
    folder, _, file = store_answers({"tench": ["a tench or a cat"], "cat": ["a tench or a cat"]})
    stored = folder.predictions(0).read_text()
    folder.predictions(0).write_text(stored.splitlines(keepends=True)[0])
    main(["--config", str(file), "--grader", "name"])
    assert report_of(folder)["grades"][0]["accuracy"]["count"] == 1, "one item, so one class is known"
    folder.predictions(0).write_text(stored)
    main(["--config", str(file), "--grader", "name"])
    assert report_of(folder)["grades"][0]["accuracy"] | {"low": 0, "high": 0} == {
        "value": 0, "low": 0, "high": 0, "count": 0, "n": 2
    }, "both classes are known now, and each answer names both"  # fmt: skip


def test_grades_belong_to_their_answers_also_where_images_have_no_label(store_answers, tmp_path):
    folder, _, file = store_answers({"tench": ["tench"], "cat": ["a tench"]})
    first, second = (json.loads(line)["id"] for line in folder.predictions(0).read_text().splitlines())
    (tmp_path / "labels.json").write_text(json.dumps({first: ["tench"], second: []}))
    main(["--config", str(file), "--grader", "name", "--set", f"protocol.labels={tmp_path / 'labels.json'}"])
    items = report_of(folder)["grades"][0]["items"]
    assert items == {"answers": 1, "graded": 1, "failed": 0, "missing": 0, "stale": 0}


def test_grades_by_other_settings_are_refused_and_fit_under_a_label(store_answers, counting, capsys):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "counting"])
    counting.shortest = 3
    for more in ([], ["--dry-run"]):
        with pytest.raises(SystemExit):
            main(["--config", str(file), "--grader", "counting", *more])
        error = capsys.readouterr().err
        assert "shortest was 2 and is now 3" in error and "--grader counting@LABEL" in error
    main(["--config", str(file), "--grader", "counting@three"])
    assert [entry["grader"] for entry in report_of(folder)["grades"]] == ["counting", "counting@three"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grader", "wrod"], "the grader 'wrod' is unknown; choose of: contains"),
        (["--grader", "word@a/b"], "the label of the grader 'word@a/b' is 'a/b'"),
        ([], "no grader is named"),
        (["--grader", "word", "--set", "output=elsewhere"], "holds no answers yet"),
        (["--grader", "word", "--set", "protocol.prompt=What is it?"], "answers to other questions: prompt"),
    ],
)
def test_what_cannot_be_graded_is_one_line(store_answers, arguments, message, capsys, monkeypatch, tmp_path):
    _, _, file = store_answers(ANSWERS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(file), *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: folder.grades("word").write_text('{"id": 1}\n'), "grades-word.jsonl, line 1 is not a grade"),
        (lambda folder: folder.grading("word").write_text("{"), "grades-word.json is damaged"),
        (lambda folder: folder.grading("word").unlink(), "has no grades-word.json"),
    ],
)
def test_damaged_grades_are_named_with_what_to_do(store_answers, damage, message, capsys):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "word"])
    damage(folder)
    with pytest.raises(SystemExit):
        main(["--config", str(file), "--grader", "word"])
    assert message in capsys.readouterr().err


def test_every_registered_grader_has_what_a_report_needs(store_answers):
    _, config, _ = store_answers(ANSWERS)
    for name in ("contains", "word", "exact", "name"):
        grader = registry.make_grader(name, config)
        assert grader.about and json.dumps(dict(grader.settings))
    with pytest.raises(ConfigError):
        registry.make_grader("nothing", config)


def test_comparison_and_scoreboard_show_each_grader_in_its_own_row(store_answers, tmp_path):
    folder, _, file = store_answers(ANSWERS)
    main(["--config", str(file), "--grader", "word"])
    page = write_comparison({"base": read_reports(folder.root)}, EvalDir(tmp_path / "table"))
    graders = next(block for block in page.blocks if isinstance(block, Table) and "grader" in block.headers)
    assert graders.rows == [["pets", "word", "base", "33.3 %", "9.7 to 70.0 %", "", "6"]]
    others = dict(collect([folder.root], paper_numbers()).others)
    assert {name: (result.value, result.n) for name, result in others.items()} == {
        "pets: llava-1.5-7b-hf": (0.5, 6),
        "pets: llava-1.5-7b-hf, grader word": (pytest.approx(1 / 3), 6),
    }


def test_the_tree_counts_answers_that_are_too_general_or_too_specific(store_answers, capsys):
    answers = {"cat": ["a cat", "kitten", "an animal", "a dog", ""], "tench": ["a cat"]}
    folder, _, file = store_answers(answers)
    main(["--config", str(file), "--grader", "tree", "--set", "grading.tree=cifar10"])
    entry = report_of(folder)["grades"][0]
    assert {outcome: rate["count"] for outcome, rate in entry["outcomes"].items()} == {
        "right": 1, "too general": 1, "too specific": 1, "wrong": 2, "no answer": 1
    }  # fmt: skip
    assert entry["flags"]["label not in the tree"]["count"] == 1
    assert entry["outcomes"]["too general"]["low"] == pytest.approx(0.0301, abs=1e-4)
    assert "16.7 % too general, 16.7 % too specific, 33.3 % wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "grading.tree is not set"),
        ({"grading": {"tree": "nowhere"}}, "no tree 'nowhere'"),
        ({"grading": {"tree": "cifar10"}}, "no class (tench) is in the tree cifar10"),
    ],
)
def test_a_tree_that_cannot_grade_is_refused_in_one_line(store_answers, settings, message, capsys):
    _, _, file = store_answers({"tench": ["tench"]}, **settings)
    with pytest.raises(SystemExit):
        main(["--config", str(file), "--grader", "tree"])
    assert message in capsys.readouterr().err
