"""Evaluations in Weights & Biases: to which run they go, what it is given, and that W&B never makes one fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run_dir import RunDir
from eval.reports import wandb_upload
from eval.reports.wandb_upload import target_of, upload
from eval.run import main
from eval.runner.batching import open_source
from tests.overrides import overrides_of
from train.loggers.wandb_session import WandbSession

RATE = {"value": 0.8, "low": 0.49, "high": 0.94, "count": 8, "n": 10}


class FakeRun:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []

    def define_metric(self, *names: str, **more: str) -> None: ...

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def finish(self) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    run = FakeRun()
    monkeypatch.setattr(WandbSession, "_open", lambda self: run)
    return run


def report(label: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "pets",
        "label": label,
        "accuracy": RATE,
        "no_answer": RATE | {"value": 0.1},
        "items": {"answered": 10, "failed": 1, "missing": 0},
        "classes": [{"label": 0, "name": "cat", "correct": 8, "wrong": 1, "no_answer": 1, "frequency": None}],
        "confusions": [{"class": "cat", "predicted_as": "dog", "count": 1, "n": 10}],
        "confusion_matrix": {"rows": ["cat"], "columns": ["cat", "dog"], "counts": [[8, 1]]},
        "examples": [
            {"id": "gone", "answer": "dog", "target": "cat", "value": False, "extracted": None, "reason": "not in it"}
        ],
    } | changes


@pytest.fixture
def trained(tmp_path: Path, data_section: str) -> RunDir:
    """The folder of a run that logs to W&B, with an export of step 40."""
    run = RunDir(tmp_path / "runs" / "mine")
    run.export.mkdir(parents=True)
    run.config.write_text(
        "name: mine\nmodel: {base: none}\ntrain: {sources: [pets]}\n"
        f"logging: {{wandb: offline, project: birds, group: mix}}\n{data_section}"
    )
    run.identity.write_text(json.dumps({"wandb_id": "abc123", "base_identity": "b1", "data": {}, "settings": {}}))
    (run.export / "export.json").write_text(json.dumps({"step": 40, "run": "mine"}))
    return run


def config_of(file: Path, **changes: str) -> EvalConfig:
    return load_config(EvalConfig, file, overrides_of(changes))[0]


def test_an_evaluation_goes_to_the_wandb_run_of_the_training(trained, write_config):
    target = target_of(config_of(write_config(model=str(trained.root))))
    assert target is not None
    assert (target.about.id, target.about.name, target.step) == ("abc123", "mine", 40)
    assert (target.logging.wandb, target.logging.project, target.logging.group) == ("offline", "birds", "mix")
    assert target.folder == trained.root
    assert target.about.settings["base_identity"] == "b1", "uploading the offline copy keeps the training's config"


def test_settings_of_the_evaluation_come_before_those_of_the_training(trained, write_config):
    file = write_config(model=str(trained.export))
    target = target_of(config_of(file, logging__project="fish", logging__entity="us"))
    assert target is not None
    assert (target.about.id, target.logging.project, target.logging.entity) == ("abc123", "fish", "us")
    assert target_of(config_of(file, logging__wandb="off")) is None


def test_a_published_model_is_logged_only_if_asked_and_to_a_run_of_its_own(write_config):
    file = write_config()
    assert target_of(config_of(file)) is None
    target = target_of(config_of(file, logging__wandb="offline"))
    assert target is not None
    assert target.about.id == target_of(config_of(file, logging__wandb="offline")).about.id
    assert target.step is None


@pytest.mark.slow
def test_checkpoints_are_a_curve_by_their_steps_and_the_tables_are_those_of_the_last(trained, write_config, fake):
    reports = [report("export"), report("step-00000030"), report("step-00000005", accuracy=RATE | {"value": 0.5})]
    upload(config_of(write_config(model=str(trained.root))), reports)
    curve = [(values["step"], values["eval/pets/accuracy"]) for values in fake.logged if "eval/pets/accuracy" in values]
    assert curve == [(5, 0.5), (30, 0.8), (40, 0.8)]
    assert fake.logged[0]["eval/pets/accuracy_low"] == 0.49 and fake.logged[0]["eval/pets/failed"] == 1
    tables = fake.logged[-1]
    assert tables["step"] == 40
    assert tables["eval/pets/classes"].data[0][:6] == ["cat", 10, 8, 1, 1, 0.8]
    assert tables["eval/pets/confusions"].data == [["cat", "dog", 1, 10]]
    assert tables["eval/pets/predictions"].data[0][:5] == ["export", "gone", None, "", "dog"]
    assert tables["eval/pets/confusion_matrix"].table.data == [["cat", "cat", 8], ["cat", "dog", 1]]


def test_an_evaluation_without_an_answer_logs_counts_and_no_accuracy(trained, write_config, fake):
    none = {"value": None, "low": None, "high": None, "count": 0, "n": 0}
    empty = report("export", accuracy=none, no_answer=none, classes=[], confusions=[], examples=[])
    upload(config_of(write_config(model=str(trained.root))), [empty | {"confusion_matrix": None}])
    assert fake.logged[0] == {
        "eval/pets/answered": 10,
        "eval/pets/failed": 1,
        "eval/pets/missing": 0,
        "step": 40,
    }
    assert fake.logged[1:] == [{"step": 40}]


@pytest.mark.parametrize("broken", ["identity", "config", "wandb"])
def test_no_fault_of_wandb_or_the_run_folder_ends_an_evaluation(trained, write_config, broken, monkeypatch, capsys):
    def fails(self: WandbSession) -> None:
        raise RuntimeError("the service is gone")

    monkeypatch.setattr(WandbSession, "_open", fails)
    config = config_of(write_config(model=str(trained.root)))
    if broken != "wandb":
        getattr(trained, broken).write_text("{")
    upload(config, [report("export")])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_evaluation_during_the_training_is_kept_offline(trained, write_config, monkeypatch, capsys):
    """Two processes that write one W&B run overwrite each other's rows."""
    monkeypatch.setattr(wandb_upload, "is_held", lambda path: path == trained.lock)
    target = target_of(config_of(write_config(model=str(trained.root)), logging__wandb="online"))
    assert target is not None and target.logging.wandb == "offline"
    assert "is being trained" in capsys.readouterr().err


def test_an_example_of_a_clip_which_is_asked_nothing_has_its_image_and_no_question(write_config):
    config = config_of(write_config(protocol={"task": "zero_shot", "classes": "imagenet"}))
    shards = open_source(config)
    sample = next(one for one in map(shards.record, range(len(shards))) if one.label_name == "tench")
    seen = wandb_upload._seen(config, report("model", examples=[{"id": sample.id}]))
    assert seen[sample.id][1] == "" and max(seen[sample.id][0].size) <= wandb_upload.SIDE


@pytest.mark.slow
def test_a_published_models_evaluation_is_in_wandbs_folder_with_its_images(write_config, tmp_path, capsys):
    main(["--config", str(write_config(logging={"wandb": "offline"}))])
    output = capsys.readouterr()
    assert "has not received" not in output.err and "wandb sync --id" in output.out
    (kept,) = (tmp_path / "answers" / "wandb").glob("offline-run-*")
    (table,) = (json.loads(file.read_text()) for file in kept.rglob("*predictions*.table.json"))
    assert {row[table["columns"].index("image")] for row in table["data"]} == {"Image"}, "each row has one"
    assert all(row[table["columns"].index("question")] for row in table["data"])
