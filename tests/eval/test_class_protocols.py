"""Class scoring as a protocol: scores are stored once, and every rule and candidate set is read from them."""

import json

import numpy as np
import pytest

from configs.run_dir import EvalDir
from configs.schema import ProtocolConfig
from eval.candidates import candidate_indices
from eval.protocols import make_protocol
from eval.records import Prediction, from_line, read_records, to_line
from eval.run import main
from eval.scoring.sheet import ClassSheet, decode_scores, encode_scores, read_sheet, write_sheet

CLASSES = ["tench", "wild dog", "cat", "cat"]
SUMS = {"x": [-4.0, -3.0, -2.0, -2.0], "y": [-1.0, -6.0, -5.0, -5.0]}
SHEET = ClassSheet(tuple(CLASSES), (1, 3, 1, 1), (-1.0, -9.0, -2.0, -2.0))


def stored(item: str, target: str) -> Prediction:
    return Prediction(
        id=item, asked="0", target=target, label=0, label_name=target, answer="cat", tokens=0, stopped=True,
        seconds=0.0, scores=encode_scores(np.array(SUMS[item])),
    )  # fmt: skip


@pytest.fixture
def judge(tmp_path):
    """Scores the two stored lines under a protocol: what each was taken for."""
    classes = tmp_path / "classes-list.json"
    classes.write_text(json.dumps(CLASSES))
    folder = EvalDir(tmp_path / "answers")
    write_sheet(folder, SHEET)

    def score(target: str = "cat", **settings):
        protocol = make_protocol(ProtocolConfig(kind="class_scoring", classes=str(classes), **settings))
        lines = [stored(item, target) for item in SUMS]
        protocol.prepare(folder, lines)
        return [protocol.score(line) for line in lines]

    return score


def test_scores_survive_the_line_and_the_sheet_its_file(tmp_path):
    line = stored("x", "cat")
    assert from_line(to_line(line)) == line
    assert decode_scores(line.scores) == pytest.approx(SUMS["x"])
    write_sheet(EvalDir(tmp_path), SHEET)
    assert read_sheet(EvalDir(tmp_path)) == SHEET


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


def test_an_evaluation_by_class_scoring_stores_all_and_reports_every_rule(write_config, tmp_path, capsys):
    classes = tmp_path / "pets.json"
    classes.write_text(json.dumps(["tench", "wild dog", "cat", "red moss"]))
    protocol = {"kind": "class_scoring", "classes": str(classes)}
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
    assert f"[protocol custom {second['protocol']['hash']}]" in capsys.readouterr().out


def test_other_questions_are_not_mixed_with_stored_scores(write_config, tmp_path, capsys):
    classes = tmp_path / "pets.json"
    classes.write_text(json.dumps(["tench", "wild dog", "cat"]))
    protocol = {"kind": "class_scoring", "classes": str(classes)}
    main(["--config", str(write_config(protocol=protocol, limit=2))])
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(protocol=protocol | {"class_prefix": "the photo"}, limit=2))])
    assert "class_prefix was ''" in capsys.readouterr().err
