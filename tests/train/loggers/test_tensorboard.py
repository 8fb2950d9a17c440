"""TensorBoard as a further logger. The package is optional, so its writer is a fake where it is not installed."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.run_dir import RunDir
from train.loggers import tensorboard_logger
from train.loggers.tensorboard_logger import TensorBoardLogger, require_tensorboard
from train.loggers.types import make_event


class FakeWriter:
    """Keeps what it is given; fails from the `fails_after`-th scalar on."""

    fails_after = 1000
    last: "FakeWriter"

    def __init__(self, folder: str, purge_step: int) -> None:
        self.purge_step, self.scalars, self.texts = purge_step, [], {}
        FakeWriter.last = self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if len(self.scalars) >= self.fails_after:
            raise OSError("No space left on device")
        self.scalars.append((name, value, step))

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts[name] = (text, step)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> type[FakeWriter]:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=FakeWriter))
    return FakeWriter


def test_numbers_of_a_step_are_scalars_under_the_names_that_wandb_has(tmp_path, writer):
    logger = TensorBoardLogger(RunDir(tmp_path), 10)
    record: dict[str, Any] = {"step": 11, "loss": 1.5, "lr": {"projector": 0.1}, "nonfinite_samples": {"0": ["a"]}}
    logger.log_step(record)
    logger.log_event(make_event(11, "straggler", "rank 1 is slow"))
    logger.log_event(make_event(11, "checkpoint", "saved"))
    logger.close()
    assert writer.last.scalars == [("loss", 1.5, 11), ("lr/projector", 0.1, 11)]
    assert writer.last.purge_step == 11, "a resumed run hides what was logged after its checkpoint"
    assert {name: step for name, (_, step) in writer.last.texts.items()} == {"run": 10, "alerts/straggler": 11}
    assert writer.last.closed


def test_a_full_disk_ends_the_logging_with_one_line_and_not_the_training(tmp_path, writer, monkeypatch, capsys):
    monkeypatch.setattr(writer, "fails_after", 1)
    logger = TensorBoardLogger(RunDir(tmp_path), 0)
    for step in range(1, 5):
        logger.log_step({"step": step, "loss": 1.0})
    logger.close()
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_without_the_package_one_line_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(tensorboard_logger, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vlm-classify\[tensorboard\]'"):
        require_tensorboard()


@pytest.mark.slow
def test_the_package_writes_an_event_file(tmp_path):
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(RunDir(tmp_path), 0)
    logger.log_step({"step": 1, "loss": 1.0})
    logger.close()
    assert len(list(RunDir(tmp_path).tensorboard.glob("events.out.tfevents.*"))) == 1
