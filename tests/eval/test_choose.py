"""The checkpoint with the best accuracy becomes the export, which names the items it was chosen on."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError, RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run_dir import RunDir, step_name
from eval import choose
from eval.choose import best_report, export_choice, main
from eval.metrics.outcomes import answers_and_settings
from eval.runner.evaluated_model import checkpoint_selection_notes

ACCURACIES = {2: 0.25, 4: 0.75, 6: 0.75, 8: 0.5}


def report_of(step: int, n: int = 16) -> dict[str, Any]:
    accuracy = {"value": ACCURACIES[step], "n": n}
    return {"name": "pets_test", "label": step_name(step), "source": "pets", "accuracy": accuracy}


@pytest.fixture
def run(tmp_path) -> RunDir:
    """A run with four checkpoints and their exports, and the export of the last step."""
    run = RunDir(tmp_path / "run")
    for step in ACCURACIES:
        run.checkpoint(step).mkdir(parents=True)
        for folder in (run.export_of(step), run.export):
            folder.mkdir(exist_ok=True, parents=True)
            (folder / "export.json").write_text(json.dumps({"step": step, "base": "hub/model", "chosen": None}))
            (folder / "model.safetensors").write_text(f"weights of {step}")
    run.config.write_text(
        "name: run\nmodel: {base: hub/model}\n"
        "data: {sources: {a: {reader: image_folder, path: x}}}\ntrain: {sources: [a]}\n"
    )
    return run


def evaluation(tmp_path: Path, run: RunDir, *overrides: str) -> EvalConfig:
    return load_config(EvalConfig, write_evaluation(tmp_path, run), overrides)[0]


def write_evaluation(tmp_path: Path, run: RunDir) -> Path:
    file = tmp_path / "evaluation.yaml"
    file.write_text(
        f"name: pets_test\nmodel: {run.root}\nsource: pets\n"
        "data: {sources: {pets: {reader: image_folder, path: y}, other: {reader: image_folder, path: z}}}\n"
    )
    return file


def test_the_highest_accuracy_is_chosen_and_of_equal_ones_the_first():
    assert best_report([report_of(step) for step in ACCURACIES])["label"] == step_name(4)


def test_a_tie_is_said_when_it_is_resolved_and_at_every_number_of_that_export(run, tmp_path, monkeypatch, capsys):
    folders = []
    for step in ACCURACIES:
        folders.append(EvalDir(run.evaluation("pets_test") / step_name(step)))
        folders[-1].root.mkdir(parents=True)
        values = report_of(step) | {"items": {"missing": 0}}
        folders[-1].report("json").write_text(json.dumps(values))
    main(["--config", str(write_evaluation(tmp_path, run)), "--stored"])
    assert "16 items of pets; step-00000006 is as good, and the earliest was taken" in capsys.readouterr().out
    (note,) = checkpoint_selection_notes(evaluation(tmp_path, run))
    assert note.startswith(
        "step 4 is the earliest of 2 equally good ones among 4 measurements by accuracy in pets_test"
    )


def test_checkpoints_with_different_items_are_not_compared():
    with pytest.raises(RunError, match=r"different numbers of answered items: step-00000002 16, step-00000004 9"):
        best_report([report_of(2), report_of(4, n=9)])
    with pytest.raises(RunError, match="no checkpoint was evaluated"):
        best_report([])


def test_the_chosen_checkpoint_becomes_the_export_and_says_on_what_it_was_chosen(run):
    export_choice(run, report_of(4), 4)
    assert (run.export / "model.safetensors").read_text() == "weights of 4"
    record = json.loads((run.export / "export.json").read_text())
    assert (record["step"], record["base"]) == (4, "hub/model")
    assert record["chosen"] == {
        "by": "accuracy in pets_test", "value": 0.75, "items": {"pets": 16}, "measured": 4, "equal": 1,
    }  # fmt: skip
    assert json.loads((run.export_of(4) / "export.json").read_text())["chosen"] is None
    with pytest.raises(RunError, match="export is no checkpoint"):
        export_choice(run, report_of(4) | {"label": "export"}, 4)


def test_a_report_says_on_which_items_the_checkpoint_was_chosen(run, tmp_path):
    assert checkpoint_selection_notes(evaluation(tmp_path, run)) == []
    export_choice(run, report_of(4), 4)
    (note,) = checkpoint_selection_notes(evaluation(tmp_path, run))
    assert note.startswith("step 4 is the best of 4 measurements by accuracy in pets_test on 16 items of pets")
    assert "the accuracy is optimistic" in note
    (other,) = checkpoint_selection_notes(evaluation(tmp_path, run, "source=other"))
    assert "optimistic" not in other and "16 items of pets" in other
    assert checkpoint_selection_notes(evaluation(tmp_path, run, "checkpoint=last")) == []
    assert checkpoint_selection_notes(evaluation(tmp_path, run, f"model={run.export}")) == [note]


def test_the_command_evaluates_every_checkpoint_and_exports_the_best(run, tmp_path, monkeypatch, capsys):
    def evaluated(config: EvalConfig, *_: object) -> list[EvalDir]:
        assert config.checkpoint == "all"
        folders = [EvalDir(tmp_path / step_name(step)) for step in ACCURACIES]
        for step, folder in zip(ACCURACIES, folders, strict=True):
            folder.root.mkdir()
            folder.report("json").write_text(json.dumps(report_of(step)))
        return folders

    monkeypatch.setattr("eval.runner.workers.evaluate_models", evaluated)
    monkeypatch.setattr(choose, "report", lambda *_: None)
    main(["--config", str(write_evaluation(tmp_path, run))])
    assert "exported step-00000004" in capsys.readouterr().out
    assert (run.export / "model.safetensors").read_text() == "weights of 4"


def test_a_model_without_checkpoints_is_one_line_and_exit_code_2(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--config", str(write_evaluation(tmp_path, run)), "--set", "model=hub/model"])
    assert left.value.code == 2
    assert "has no checkpoints; give the folder of a run" in capsys.readouterr().err


def test_stored_reports_are_chosen_among_without_an_evaluation(tmp_path, run, capsys, monkeypatch):
    for step in ACCURACIES:
        folder = EvalDir(run.evaluation("pets_test") / step_name(step))
        folder.root.mkdir(parents=True)
        report = report_of(step) | {"items": {"missing": 9 if step == 4 else 0}}
        folder.report("json").write_text(json.dumps(report))
    monkeypatch.setattr("eval.choose.report", None)
    arguments = ["--config", str(write_evaluation(tmp_path, run)), "--stored"]
    main(arguments)
    assert "exported step-00000006" in capsys.readouterr().out, "step 4 is not complete"
    assert (run.export / "model.safetensors").read_text() == "weights of 6"
    (run.export_of(6) / "export.json").unlink()
    with pytest.raises(SystemExit):
        main(arguments)
    assert "step-00000006 has the highest accuracy and its weights are gone" in capsys.readouterr().err


def test_a_damaged_report_or_record_of_an_export_is_one_line(tmp_path, run, capsys):
    folder = EvalDir(run.evaluation("pets_test") / step_name(4))
    folder.root.mkdir(parents=True)
    folder.report("json").write_text(json.dumps(report_of(4) | {"items": {"missing": 0}})[:-9])
    with pytest.raises(SystemExit):
        main(["--config", str(write_evaluation(tmp_path, run)), "--stored"])
    assert "step-00000004/report.json is damaged" in capsys.readouterr().err
    (run.export / "export.json").write_text("{")
    with pytest.raises(ConfigError, match=r"export\.json is not valid JSON"):
        checkpoint_selection_notes(evaluation(tmp_path, run))


def test_a_folder_whose_report_is_damaged_is_not_compared(tmp_path):
    EvalDir(tmp_path).report("json").write_text('{"answers_of"')
    with pytest.raises(RunError, match=r"report\.json is damaged .* run eval\.run --report-only again"):
        answers_and_settings(EvalDir(tmp_path))
