"""The end of a run: what is exported is what was trained, and half an export is none."""

import errno
import json
import threading
import time
from types import SimpleNamespace

import pytest
import torch

import train.exported_model
from configs.errors import ConfigError, DataError, RunError
from configs.load import to_yaml
from configs.run_dir import ExportDir, RunDir
from configs.saving import CheckpointConfig
from train import lifecycle
from train.build import build_components
from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.checkpoints.reading import open_checkpoint
from train.checkpoints.writing import CheckpointWriter, Snapshot
from train.data.order import DataPosition
from train.distributed.world import World
from train.exported_model import export_checkpoint, model_folders
from train.models.fingerprint import model_identity
from train.optimization.full_state import ParameterState
from train.plan import make_plan
from train.resume import ResumePoint
from train.supervision import signals
from train.supervision.heartbeats import HeartbeatStore
from train.supervision.progress import Progress


def write_checkpoint(run: RunDir, step: int, identity: str) -> None:
    name = "model.multi_modal_projector.linear_1.bias"
    zeros = torch.zeros(4)
    state = ParameterState(name, zeros, {"exp_avg": zeros, "exp_avg_sq": zeros})
    CheckpointWriter(run, CheckpointConfig()).write(Snapshot.take(step, [state], {"base_identity": identity}))


@pytest.fixture
def trainer(training_setup, tmp_path):
    """As far as the end of a run of 8 steps, with checkpoints of steps 4 and 8, needs one."""
    run = RunDir(tmp_path / "run")
    identity = model_identity(training_setup.root / "base")
    for step in (4, 8):
        write_checkpoint(run, step, identity)
    run.config.write_text(to_yaml(training_setup.config("ending")))
    plan = SimpleNamespace(run=run, length=SimpleNamespace(total_steps=8))
    return SimpleNamespace(plan=plan, progress=Progress(), step_to_export=8, position=DataPosition(8))


def test_a_resume_that_trains_other_parameters_is_refused_before_anything_is_written(trainer, training_setup):
    plan = make_plan(training_setup.config("other_parameters", "model.mode=full"), 1, "cpu")
    start = ResumePoint({}, open_checkpoint(trainer.plan.run, 8), [])
    with pytest.raises(RunError, match=r"1 trained parameters, and this run trains \d+.*undo the change of model.mode"):
        build_components(plan, World(0, 1, 0, torch.device("cpu")), start)
    assert not plan.run.root.exists()


def test_a_checkpoint_under_another_name_is_no_step(trainer):
    renamed = trainer.plan.run.checkpoint(8).rename(trainer.plan.run.checkpoints / "good")
    with pytest.raises(RunError, match="good is a checkpoint under another name"):
        model_folders(str(renamed))


@pytest.fixture(autouse=True)
def _signals_stay(monkeypatch):
    monkeypatch.setattr(signals, "ignore", lambda: None)


def test_an_older_checkpoint_is_not_exported_in_place_of_a_damaged_last_one(trainer, monkeypatch, capsys):
    exported = []
    monkeypatch.setattr(lifecycle, "export_checkpoint", lambda run, checkpoint, output: exported.append(checkpoint))
    chosen = ExportDir(trainer.plan.run.export).record
    chosen.parent.mkdir()
    chosen.write_text(json.dumps({"step": 4, "chosen": {"by": "accuracy in pets"}}))
    lifecycle._export(trainer)
    assert [checkpoint.step for checkpoint in exported] == [8]
    assert "in place of step 4, which was chosen by accuracy in pets" in capsys.readouterr().out, "never in silence"
    file = trainer.plan.run.checkpoint(8) / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"nothing was exported to .*step-00000008.* is damaged.*--resume auto"):
        lifecycle._export(trainer)
    assert len(exported) == 1


@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), signals.StopRequested()])
def test_half_an_export_is_removed_and_a_full_disk_is_said_in_words(trainer, monkeypatch, capsys, error):
    def fails(family, base, output, chat):
        assert list(output.iterdir()), "half of it was written"
        raise error

    monkeypatch.setattr(train.exported_model, "write_text_files", fails)
    monkeypatch.setattr(train.exported_model, "_set_weights", lambda model, weights: None)
    if isinstance(error, OSError):
        with pytest.raises(RunError, match=r"nothing was exported to .*No space left on device.*--resume auto"):
            lifecycle._export(trainer)
    else:
        lifecycle._export(trainer)
        assert trainer.plan.run.requeue.is_file()
    assert not trainer.plan.run.export.exists()
    assert not list(trainer.plan.run.root.glob(".export.*.tmp"))


def test_a_damaged_record_of_a_run_is_one_line(trainer, tmp_path):
    trainer.plan.run.identity.write_text("{")
    with pytest.raises(ConfigError, match=r"identity\.json is damaged .*continue the training with --resume auto"):
        export_checkpoint(trainer.plan.run, open_checkpoint(trainer.plan.run, 8), tmp_path / "out")


@pytest.mark.slow
def test_an_export_with_a_damaged_record_is_made_anew(trainer, monkeypatch):
    monkeypatch.setattr(train.exported_model, "_set_weights", lambda model, weights: None)
    run = trainer.plan.run
    record = run.export_of(8) / train.exported_model.RECORD
    record.parent.mkdir()
    record.write_text('{"mode": ')
    assert model_folders(str(run.checkpoint(8))) == [("step-00000008", run.export_of(8))]
    assert json.loads(record.read_text())["step"] == 8


def test_a_checkpoint_is_under_way_also_while_the_run_waits_for_it(tmp_path):
    """The watchdog asks this when a rank has died, and the main thread waits for the writer by then."""
    told: list[bool] = []
    waits = threading.Event()
    writer = CheckpointWriter(RunDir(tmp_path), CheckpointConfig())
    checkpointer = AsyncCheckpointer(writer, asynchronous=True)
    write = writer.write

    def asks(snapshot: Snapshot):
        assert waits.wait(30)
        told.append(checkpointer.is_writing)
        return write(snapshot)

    writer.write = asks  # type: ignore[method-assign]
    checkpointer.begin(Snapshot.take(1, [], {}), time.perf_counter())
    result = checkpointer._running.result
    checkpointer._running.result = lambda: waits.set() or result()  # type: ignore[method-assign]
    outcome = checkpointer.finished(wait=True)
    assert outcome is not None
    assert outcome.error is None
    assert told == [True]
    assert not checkpointer.is_writing


def test_a_rank_names_what_is_wrong_with_a_sample_that_only_it_reads(tmp_path, capsys):
    """Whether it is read to train on or to measure the held-out loss."""

    def run() -> int:
        raise DataError("rank 1: sample 5 of somewhere is damaged")

    def watched(rank: int) -> None:
        trainer = SimpleNamespace(
            plan=plan, progress=Progress(), components=components, run=run, heartbeats=HeartbeatStore(rank, 1)
        )
        with pytest.raises(DataError):
            lifecycle.run_supervised(trainer, World(rank, 1, rank, torch.device("cpu")))

    plan = SimpleNamespace(run=RunDir(tmp_path), config=SimpleNamespace(train=SimpleNamespace(step_timeout=60.0)))
    components = SimpleNamespace(checkpointer=None, loggers=[])
    watched(rank=1)
    assert capsys.readouterr().err == "error: rank 1: sample 5 of somewhere is damaged\n"
    watched(rank=0)
    assert capsys.readouterr().err == "", "the entry point prints what the leading rank has to say"
