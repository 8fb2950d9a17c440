"""The best checkpoint by held-out loss: chosen as a list of all measurements says, kept, exported, resumed alike."""

import doctest
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.errors import ConfigError, RunError
from configs.run_dir import RunDir
from configs.saving import CheckpointConfig
from train.checkpoints.best import BestCheckpoint, best_of, choice_record
from train.checkpoints.reading import steps_present
from train.checkpoints.writing import CheckpointWriter, Snapshot
from train.models import export_choice

ROOT = Path(__file__).resolve().parents[3]
Losses = list[tuple[int, float]]


def slow_best(losses: Losses, patience: int) -> tuple[int, int]:
    """(best step, step at which training ends) of all measurements."""
    for k in range(1, len(losses) + 1):
        seen = losses[:k]
        best = min(range(k), key=lambda i: seen[i][1])
        if patience and k - 1 - best >= patience:
            return seen[best][0], seen[-1][0]
    return min(losses, key=lambda pair: pair[1])[0], losses[-1][0]


def tracked(losses: Losses, patience: int, resumed_after: int | None = None) -> tuple[int | None, int]:
    best, last = BestCheckpoint(CheckpointConfig(keep="best", patience=patience), {"unseen": 3}), 0
    for number, (step, loss) in enumerate(losses):
        if number == resumed_after:
            state = json.loads(json.dumps(best.state_dict()))
            best = BestCheckpoint(best.config, best.items)
            best.load_state_dict(state, {state["step"]})
        if best.is_exhausted():
            break
        best.observe(step, {"a": loss - 1, "b": loss + 1})
        assert not best.observe(step + 1, None), "a step without a measurement"
        last = step
    return best.step, last


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_step_and_the_end_are_those_of_the_list_of_all_measurements(seed, patience):
    values = np.random.default_rng(seed).integers(1, 9, 12).astype(float).tolist()
    losses = [(10 * (k + 1), value) for k, value in enumerate(values)]
    expected = slow_best(losses, patience)
    assert tracked(losses, patience) == expected
    for resumed_after in (1, 5):
        assert tracked(losses, patience, resumed_after) == expected


def test_a_loss_that_is_not_a_number_is_never_the_best():
    best = BestCheckpoint(CheckpointConfig(keep="best"))
    assert not best.observe(1, {"a": math.nan})
    assert best.state_dict()["step"] is None and best.state_dict()["loss"] is None
    assert best.observe(2, {"a": 7.0})


def test_a_best_step_that_a_rollback_removed_is_forgotten():
    best = BestCheckpoint(CheckpointConfig(keep="best", patience=2))
    best.load_state_dict({"step": 8, "loss": 1.0, "since": 1, "measured": 3}, [2, 4])
    assert (best.step, best.loss, best.since, best.is_exhausted()) == (None, math.inf, 0, False)
    assert best.observe(6, {"a": 5.0})


def test_losses_of_other_held_out_samples_are_forgotten_as_they_cannot_be_compared():
    before = BestCheckpoint(CheckpointConfig(keep="best", patience=2), {"unseen": 10})
    before.observe(4, {"unseen": 1.0})
    before.observe(6, {"unseen": 2.0})
    for items, expected in (({"unseen": 10}, (4, 1.0, 2, 1)), ({"unseen": 99}, (None, math.inf, 0, 0))):
        after = BestCheckpoint(before.config, items)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())), [4, 6])
        assert (after.step, after.loss, after.measured, after.since) == expected


def write(run: RunDir, steps: range, best_at: int, **config: object) -> None:
    writer = CheckpointWriter(run, CheckpointConfig(**config))
    for step in steps:
        best = {"step": min(step, best_at), "loss": 0.5, "items": {"unseen": 9}, "measured": step, "since": 0}
        snapshot = Snapshot.take(step, [], {"best": best})
        writer.write(snapshot)
        writer.prune(step, writer.best_step(snapshot))


def test_the_best_checkpoint_outlives_the_last_ones(tmp_path):
    run = RunDir(tmp_path)
    write(run, range(1, 9), 3, keep="best", keep_last=2)
    assert steps_present(run) == [3, 7, 8]
    assert best_of(run)["step"] == 3
    assert choice_record(run, 3) == {"by": "held-out loss", "value": 0.5, "items": {"unseen": 9}, "measured": 8}
    assert choice_record(run, 8) is None
    (run.checkpoint(8) / "state.json").write_text("{")
    with pytest.raises(RunError, match="name a step with --step"):
        best_of(run)
    last = RunDir(tmp_path / "last")
    write(last, range(1, 9), 3, keep_last=2)
    assert steps_present(last) == [7, 8]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.heldout=[]", "checkpoint.keep=best"], "checkpoint.keep is best and train.heldout is empty"),
        (["train.heldout=[]", "checkpoint.patience=3"], "checkpoint.patience is 3 and train.heldout is empty"),
        (["train.heldout_every=0", "checkpoint.keep=best"], "train.heldout_every is 0"),
    ],
)
def test_a_choice_without_measurements_is_refused(training_setup, overrides, message):
    with pytest.raises(ConfigError, match=message):
        training_setup.config("choice", *overrides)


def train(training_setup, name: str, *more: str) -> None:
    rates = {"model__mode": "lora", "optim__lr_projector": 1.0, "optim__lr_language": 1.0}
    kept = {"train__heldout_every": 1, "checkpoint__keep": "best", "checkpoint__every": 4, "checkpoint__keep_last": 1}
    words = training_setup.arguments(name, checkpoint__patience=1, **rates, **kept)
    done = subprocess.run(
        [sys.executable, "train/finetune.py", *words, *more], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.mark.slow
def test_a_run_ends_early_exports_its_best_step_and_does_the_same_when_resumed(training_setup):
    train(training_setup, "best")
    run = RunDir(training_setup.root / "runs" / "best")
    lines = list(map(json.loads, run.metrics.read_text().splitlines()))
    losses = [(line["step"], line["heldout_loss"]["unseen"]) for line in lines]
    best, end = slow_best(losses, 1)
    assert lines[-1]["step"] == end < 12, "the rate is too high on purpose"
    record = json.loads((run.export / "export.json").read_text())
    assert record["step"] == best and best in steps_present(run)
    assert record["chosen"]["items"] == {"unseen": 10} and record["chosen"]["measured"] == len(losses)
    assert record["chosen"]["value"] == pytest.approx(dict(losses)[best])
    assert "stopped_early" in run.events.read_text()
    shutil.rmtree(run.export)
    for step in steps_present(run):
        if step != best:
            shutil.rmtree(run.checkpoint(step))
    train(training_setup, "best", "--resume", "auto")
    again = [json.loads(line)["heldout_loss"]["unseen"] for line in run.metrics.read_text().splitlines()]
    assert again == [loss for _, loss in losses]
    assert json.loads((run.export / "export.json").read_text()) == record


def test_the_examples_of_how_a_choice_is_said_hold():
    assert doctest.testmod(export_choice).failed == 0
    assert doctest.testmod(export_choice).attempted >= 1
