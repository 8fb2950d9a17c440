"""Accuracies as TensorBoard's events: a point for each checkpoint, also where reports are made twice."""

import json
from types import SimpleNamespace

import pytest

from configs.eval_dir import EvalDir
from configs.run_dir import RunDir, step_name
from eval.reports.tensorboard_upload import write_tensorboard

pytest.importorskip("tensorboard")

CONFIG = (
    "name: run\nmodel: {base: hub/model}\ndata: {sources: {a: {reader: image_folder, path: x}}}\n"
    "train: {sources: [a]}\nlogging: {tensorboard: %s}\n"
)


def add_report(run, label, value):
    folder = EvalDir(run.evaluation("pets") / label)
    folder.root.mkdir(parents=True, exist_ok=True)
    rate = {"value": value, "low": value / 2, "high": 1.0}
    counts = {"answered": 16, "failed": 0, "missing": 0}
    report = {"name": "pets", "label": label, "accuracy": rate, "no_answer": rate, "items": counts}
    folder.report("json").write_text(json.dumps(report))
    folder.config.write_text("{}")


def test_each_checkpoint_is_one_point_whose_value_is_that_of_the_report(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    run.config.write_text(CONFIG % "true")
    config = SimpleNamespace(model=str(run.root), name="pets", output=None)
    for step, value in ((2, 0.25), (4, 0.5)):
        add_report(run, step_name(step), value)
        write_tensorboard(config)
    add_report(run, step_name(4), 0.75)
    write_tensorboard(config)
    found = EventAccumulator(str(run.tensorboard / "eval/pets"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("eval/pets/accuracy")] == [(2, 0.25), (4, 0.75)]
    assert [event.value for event in found.Scalars("eval/pets/accuracy_low")] == [0.125, 0.375]


def test_a_run_without_tensorboard_gets_no_files_and_a_damaged_one_no_error(tmp_path, capsys):
    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    run.config.write_text(CONFIG % "false")
    add_report(run, step_name(2), 0.25)
    config = SimpleNamespace(model=str(run.root), name="pets", output=None)
    write_tensorboard(config)
    assert not run.tensorboard.exists()
    run.config.write_text("name: [")
    write_tensorboard(config)
    assert "TensorBoard has not received this evaluation: ConfigError" in capsys.readouterr().err
