"""What W&B is given of a training: its description, steps, alerts and flagged samples. W&B itself is a fake."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.run_dir import RunDir
from configs.saving import LoggingConfig
from data_prep.provenance import StartLog
from train.loggers import run_description, shown_alerts
from train.loggers.jsonl import JsonlLogger
from train.loggers.run_description import describe_run
from train.loggers.shown_alerts import flagged_rows
from train.loggers.types import make_event
from train.loggers.wandb_logger import WandbLogger
from train.loggers.wandb_session import WandbRun, WandbSession


class FakeRun:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.alerts: list[str] = []

    def define_metric(self, *names: str, **more: str) -> None: ...

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def alert(self, title: str, text: str) -> None:
        self.alerts.append(title)

    def finish(self) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    run = FakeRun()
    monkeypatch.setattr(WandbSession, "_open", lambda self: run)
    return run


def alert(step: int, *samples: str, since: int | None = None) -> dict[str, Any]:
    details = {"signal": "loss/pictures", "value": 7, "since": since, "samples": {str(step - 1): list(samples)}}
    return make_event(step, "outlier", "an outlier", **details)


def log_all(run: RunDir, *events: dict[str, Any]) -> None:
    """As a training does: the files first."""
    loggers = [JsonlLogger(run, 0), WandbLogger(LoggingConfig(wandb="offline"), run, WandbRun("a", "b", {}), print)]
    for event in events:
        for logger in loggers:
            logger.log_event(event)
    for logger in reversed(loggers):
        logger.close()


def tables(fake: FakeRun) -> list[list[list[Any]]]:
    return [values["flagged_samples"].data for values in fake.logged if "flagged_samples" in values]


def test_flagged_samples_are_a_table_whose_last_upload_has_all(tmp_path, fake):
    log_all(RunDir(tmp_path), *(alert(step, f"id-{step}", since=3) for step in range(3, 9)))
    assert tables(fake)[-1] == [[step, "outlier", "loss/pictures", 7.0, step - 1, f"id-{step}"] for step in range(3, 9)]
    assert len(tables(fake)) < 6, "not one upload an alert"
    assert fake.alerts == ["outlier at step 3"], "of an episode the first"
    assert [values["alerts"] for values in fake.logged if "alerts" in values] == [1]


def test_a_resumed_run_keeps_the_samples_and_the_count_of_the_start_before(tmp_path, fake):
    log_all(RunDir(tmp_path), alert(3, "a"))
    log_all(RunDir(tmp_path), alert(7, "b"))
    assert [row[-1] for row in tables(fake)[-1]] == ["a", "b"]
    assert [values["alerts"] for values in fake.logged if "alerts" in values] == [1, 2]


def test_without_an_alert_there_is_no_table(tmp_path, fake):
    log_all(RunDir(tmp_path), make_event(4, "checkpoint", "saved"))
    assert fake.logged == [] and fake.alerts == []


def test_the_table_is_bounded_and_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(shown_alerts, "MOST_FLAGGED", 3)
    rows = flagged_rows(
        [alert(9, "a", "b"), alert(10, "c", "d", "e"), make_event(11, "outlier", "unread", samples=None)]
    )
    assert [row[-1] for row in rows] == ["a", "b", "c", "2 more samples are in events.jsonl"]


def test_samples_that_could_not_be_looked_up_are_in_the_table_with_the_reason():
    event = make_event(9, "outlier", "", signal="grad_norm", value=None, samples={"8": "not read: no shard"})
    assert flagged_rows([event]) == [[9, "outlier", "grad_norm", None, 8, "not read: no shard"]]


def written(root: Path) -> RunDir:
    run = RunDir(root)
    run.config.write_text(
        "name: a\nmodel: {base: llava-hf/llava-1.5-7b-hf, mode: lora}\nslurm: {setup: [x]}\n"
        "data: {shards: 's3://key:canary@bucket/shards'}\nlogging: {wandb: online}\nruns_dir: /disk/runs\n"
    )
    settings = {"model.kernels": "compile"}
    run.identity.write_text(json.dumps({"base_identity": "b1", "data": {"train": "d1"}, "settings": settings}))
    StartLog(run.provenance).begin(world_size=8, gpus=["H100"] * 8, hosts={"node-1": 8})
    return run


def test_a_run_is_described_by_base_data_world_versions_and_commit_without_secrets_and_machines(tmp_path):
    about = describe_run(written(tmp_path))
    assert about["model"] == {"base": "llava-hf/llava-1.5-7b-hf", "mode": "lora"}
    assert (about["base_identity"], about["data_fingerprints"]) == ("b1", {"train": "d1"})
    assert (about["world_size"], about["gpus"], about["kernels"]) == (8, ["H100"] * 8, "compile")
    assert about["packages"]["torch"] and about["python"]
    assert about.get("code") == run_description.read_starts(RunDir(tmp_path).provenance)[-1]["code"]
    assert about["data"] == {}
    assert not {"slurm", "logging", "runs_dir", "command", "host", "hosts"} & about.keys()


@pytest.mark.parametrize("content", ["", "- 1", "{", "a: [", "\x00"])
def test_a_damaged_file_of_the_run_leaves_the_rest_of_its_description(tmp_path, content):
    run = written(tmp_path)
    run.config.write_text(content)
    run.identity.write_text(content)
    about = describe_run(run)
    assert about["world_size"] == 8
    assert "base_identity" not in about


def test_group_tags_and_notes_reach_wandb(tmp_path, monkeypatch):
    given: dict[str, Any] = {}
    monkeypatch.setattr("wandb.init", lambda **settings: given.update(settings) or FakeRun())
    config = LoggingConfig(wandb="offline", group="mix", tags=("7b", "lora"), notes="why")
    session = WandbSession(config, tmp_path, WandbRun("a", "b", {"x": 1}), print)
    session.close()
    assert (given["group"], given["tags"], given["notes"]) == ("mix", ["7b", "lora"], "why")
    assert (given["id"], given["resume"], given["config"]) == ("b", "allow", {"x": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tags": ("x" * 65,)}, "65 characters; W&B takes 1 to 64"),
        ({"tags": ("",)}, "0 characters; W&B takes 1 to 64"),
        ({"project": "a/b"}, "which has /; W&B takes 1 to 128"),
        ({"project": ""}, "0 characters"),
        ({"group": "x" * 129}, "129 characters; W&B takes 1 to 128"),
    ],
)
def test_a_project_group_or_tag_that_the_server_refuses_is_refused_before_the_run(settings, message):
    with pytest.raises(ConfigError, match=message):
        LoggingConfig(**settings)
