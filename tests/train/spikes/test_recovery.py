"""Going back to a checkpoint from before the trouble, seen from one rank."""

from collections.abc import Iterator

import pytest
import torch

from configs.run_dir import RunDir
from configs.saving import CheckpointConfig
from configs.training import MonitorConfig
from train.checkpoints.reading import Checkpoint, steps_present
from train.checkpoints.writing import CheckpointWriter, Snapshot
from train.data.order import DataPosition
from train.distributed.world import World
from train.optimization.full_state import ParameterState
from train.spikes.policy import Decision, SpikePolicy
from train.spikes.recovery import roll_back


class Stands:
    """A trainer after step 30 that notes where it is set back to."""

    def __init__(self) -> None:
        self.position = DataPosition(30)
        self.world = World(0, 1, 0, torch.device("cpu"))
        self.back: list[int] = []

    def load_state(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        self.back.append(checkpoint.step)


@pytest.fixture
def run(tmp_path) -> RunDir:
    """Checkpoints of steps 10, 20 and 28."""
    run = RunDir(tmp_path)
    writer = CheckpointWriter(run, CheckpointConfig(keep_last=9))
    for step in (10, 20, 28):
        state = {"order": {"step": step, "skipped": []}, "monitor": {}, "policy": {"missed": 0}}
        writer.write(Snapshot.take(step, [], state))
    return run


def damage(run: RunDir, *steps: int) -> None:
    for step in steps:
        file = run.checkpoint(step) / "state.json"
        file.write_bytes(file.read_bytes()[:-1])


DECISION = Decision("rollback", "loss/a: not recovering", since=25)


def test_a_damaged_checkpoint_is_skipped_and_said_so(run):
    damage(run, 20)
    trainer = Stands()
    done = roll_back(trainer, run, SpikePolicy(MonitorConfig(rollback_margin=5)), DECISION)
    assert isinstance(done, str)
    assert "from step 30 to the checkpoint of step 10, skipping data steps 10 to 29" in done
    assert "skipped step-00000020: " in done
    assert "state.json is damaged" in done
    assert trainer.back == [10]
    assert steps_present(run) == [10]


def test_without_a_complete_checkpoint_the_run_stops_and_says_why(run):
    damage(run, 10, 20)
    trainer = Stands()
    done = roll_back(trainer, run, SpikePolicy(MonitorConfig(rollback_margin=5)), DECISION)
    assert isinstance(done, Decision)
    assert done.kind == "stop"
    assert "no complete checkpoint from before step 25; skipped step-00000020: " in done.reason
    assert trainer.back == []
    assert steps_present(run) == [10, 20, 28], "nothing is deleted"
