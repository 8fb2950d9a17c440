"""Class scoring as a protocol: scores are stored once, and every rule and candidate set is read from them."""

import json

import numpy as np
import pytest

from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.class_scores.table import ClassScoreTable, decode_scores, encode_scores, read_class_scores, write_class_scores
from eval.run import main
from eval.runner.predictions import from_line, read_records, to_line
from eval.tasks.candidates import candidate_indices
from eval.tasks.registry import make_task
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

CLASSES = ["tench", "wild dog", "cat", "cat"]
SUMS = {"x": [-4.0, -3.0, -2.0, -2.0], "y": [-1.0, -6.0, -5.0, -5.0]}
SHEET = ClassScoreTable(tuple(CLASSES), (1, 3, 1, 1), (-1.0, -9.0, -2.0, -2.0))


def stored(item: str, target: str) -> Prediction:
    return stored_answer(item, "cat", target, scores=encode_scores(np.array(SUMS[item])))


@pytest.fixture
def judge(tmp_path):
    """Scores the two stored lines under a protocol: what each was taken for."""
    classes = tmp_path / "classes-list.json"
    classes.write_text(json.dumps(CLASSES))
    folder = EvalDir(tmp_path / "answers")
    write_class_scores(folder, SHEET)

    def score(target: str = "cat", **settings):
        task = make_task(ProtocolConfig(task="class_likelihood", classes=str(classes), **settings))
        lines = [stored(item, target) for item in SUMS]
        task.prepare(folder, lines)
        return [task.score(line) for line in lines]

    return score


def test_scores_survive_the_line_and_the_sheet_its_file(tmp_path):
    line = stored("x", "cat")
    assert from_line(to_line(line)) == line
    assert decode_scores(line.scores) == pytest.approx(SUMS["x"])
    write_class_scores(EvalDir(tmp_path), SHEET)
    assert read_class_scores(EvalDir(tmp_path)) == SHEET


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rule": "sum"}, ["cat", "tench"]),
        ({"rule": "mean"}, ["wild dog", "tench"]),
        ({"rule": "cfg", "guidance": 2.0, "cfg_form": "log"}, ["wild dog", "tench"]),  # 2 x -3 + 9 = 3
        ({"rule": "cfg", "guidance": 2.0, "cfg_form": "log", "cfg_prior": "dataset_mean"}, ["cat", "tench"]),
        ({"rule": "cfg", "guidance": 1.0, "cfg_form": "probability"}, ["cat", "tench"]),
    ],
)
def test_the_rule_is_chosen_when_the_report_is_made(judge, settings, expected):
    scores = judge(**settings)
    assert [score.extracted for score in scores] == expected
    assert [score.value for score in scores] == [name == "cat" for name in expected]


def test_fewer_candidates_need_no_new_scores(judge):
    for item, score in zip(SUMS, judge(target="wild dog", candidates=2), strict=True):
        allowed = candidate_indices(CLASSES, "wild dog", 2, item)
        best = max(allowed, key=lambda index: SUMS[item][index])
        assert (len(allowed), score.extracted) == (2, CLASSES[best])


def test_a_class_that_shares_its_name_is_right_by_name(judge):
    assert judge()[0].value is True
    assert judge(duplicates="first")[0].value is True  # of equal scores the first is taken


@pytest.mark.slow
def test_an_evaluation_by_class_scoring_stores_all_and_reports_every_rule(write_config, tmp_path, capsys):
    classes = tmp_path / "pets.json"
    classes.write_text(json.dumps(["tench", "wild dog", "cat", "red moss"]))
    protocol = {"task": "class_likelihood", "classes": str(classes)}
    config = str(write_config(protocol=protocol))
    main(["--config", config])
    folder = EvalDir(tmp_path / "answers")
    records = read_records(folder).predictions
    assert len(records) == 15
    assert all(len(decode_scores(record.scores)) == 4 for record in records.values())
    first = json.loads(folder.report("json").read_text())
    main(["--config", config, "--report-only", "--set", "protocol.rule=mean", "--set", "protocol.candidates=2"])
    second = json.loads(folder.report("json").read_text())
    assert first["protocol"]["hash"] != second["protocol"]["hash"]
    assert second["accuracy"]["n"] == 15
    assert first["candidate_set"]["candidates"] == 4
    assert first["examples"][0]["candidates"] is None
    page = folder.report("md").read_text()
    assert "scored among 2 of 4 classes" in page
    assert "the highest mean of token log-probabilities (rule: mean)" in page
    assert all(example["answer"] == example["extracted"] for example in second["examples"])
    assert f"[protocol custom {second['protocol']['hash']}]" in capsys.readouterr().out


@pytest.mark.slow
def test_other_questions_are_not_mixed_with_stored_scores(write_config, tmp_path, capsys):
    classes = tmp_path / "pets.json"
    classes.write_text(json.dumps(["tench", "wild dog", "cat"]))
    protocol = {"task": "class_likelihood", "classes": str(classes)}
    main(["--config", str(write_config(protocol=protocol, limit=2))])
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(protocol=protocol | {"class_prefix": "the photo"}, limit=2))])
    assert "class_prefix was ''" in capsys.readouterr().err


@pytest.mark.slow
def test_answers_asked_for_probabilities_serve_both_readings_and_others_say_what_is_missing(
    write_config, tmp_path, capsys
):
    classes = tmp_path / "pets.json"
    classes.write_text(json.dumps(["tench", "wild dog", "cat", "red moss bark"]))
    protocol = {"task": "class_likelihood", "classes": str(classes)}
    literal = ["--set", "protocol.token_scores=probability", "--set", "protocol.rule=sum"]
    main(["--config", str(write_config(protocol=protocol)), *literal])
    folder = EvalDir(tmp_path / "answers")
    names = read_class_scores(folder).names
    for line in read_records(folder).predictions.values():
        logs, sums = decode_scores(line.scores), decode_scores(line.probabilities)
        assert np.all(sums > np.exp(logs) - 1e-6)  # a sum of probabilities exceeds their product
        assert sums[0] == pytest.approx(np.exp(logs[0]), rel=1e-5)  # one token
        assert line.answer == names[int(sums.argmax())]
    by_words = json.loads(folder.report("json").read_text())
    main(["--config", str(write_config(protocol=protocol)), "--report-only"])  # the same answers, the other reading
    by_logs = json.loads(folder.report("json").read_text())
    assert by_words["protocol"]["hash"] != by_logs["protocol"]["hash"]
    assert by_logs["accuracy"]["n"] == 15
    output = str(tmp_path / "logs")
    main(["--config", str(write_config(protocol=protocol, output=output))])
    assert all("probabilities" not in line for line in EvalDir(tmp_path / "logs").predictions(0).open())
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(protocol=protocol, output=output)), "--report-only", *literal])
    assert "ask again: such answers serve both" in capsys.readouterr().err


def test_a_dry_run_reports_what_misaligned_ids_cost(write_config, tmp_path, capsys):
    classes = tmp_path / "pets.json"
    classes.write_text(json.dumps(["tench", "wild dog", "cat", "red moss"]))
    config = str(write_config(protocol={"task": "class_likelihood", "classes": str(classes)}))
    main(["--config", config, "--dry-run"])
    assert "forward passes" not in capsys.readouterr().out
    main(["--config", config, "--dry-run", "--set", "protocol.class_token_ids=misaligned"])
    assert "60 forward passes of prompt and name, one for each of 4 names" in capsys.readouterr().out
