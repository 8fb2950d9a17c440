"""TensorBoard's event files as a further logger. They are local and written in TensorBoard's own thread."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from configs.errors import ConfigError, kind_and_line
from configs.run_dir import RunDir
from train.loggers.flattening import flattened
from train.loggers.run_description import describe_run
from train.loggers.shown_alerts import is_shown
from train.loggers.types import Record

INSTALL = "pip install 'vlm-classify[tensorboard]'"


def require_tensorboard() -> None:
    """Raise `ConfigError` with the command that installs the package, if it is not installed."""
    if find_spec("tensorboard") is None:
        raise ConfigError(f"logging.tensorboard needs the package tensorboard: {INSTALL}, or set it to false")


class TensorBoardLogger:
    """Numbers of steps as scalars, alerts as texts. A failing disk ends the logging and not the training."""

    def __init__(self, run: RunDir, start: int):
        """Write into `run.tensorboard`; what an earlier start logged after step `start` is hidden by TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        self._run, self._writer = run, None

        def write(_: Any) -> None:
            self._writer = SummaryWriter(str(run.tensorboard), purge_step=start + 1)
            about = json.dumps(describe_run(run), indent=1, ensure_ascii=False, default=str)
            self._writer.add_text("run", f"```\n{about}\n```", start)

        self._failed = False
        self._try(write)

    def log_step(self, record: Record) -> None:
        """A scalar for each number, nested ones as `name/key`."""
        numbers = {name: value for name, value in flattened(record).items() if _is_number(value)}
        step = numbers.pop("step")

        def write(writer: Any) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        self._try(write)

    def log_event(self, record: Record) -> None:
        """Alerts alone, each kind under its own name."""
        if is_shown(record):
            self._try(
                lambda writer: writer.add_text(f"alerts/{record['kind']}", str(record["message"]), record["step"])
            )

    def close(self) -> None:
        """Write what waits."""
        self._try(lambda writer: writer.close())

    def _try(self, write: Callable[[Any], None]) -> None:
        """Write unless it failed before. TensorBoard raises its thread's own errors, which have no common base."""
        if self._failed:
            return
        try:
            write(self._writer)
        except Exception as error:
            self._failed = True
            lost = f"{self._run.tensorboard} gets no further data, the run's own files do"
            print(f"{lost}: {kind_and_line(error)}", file=sys.stderr)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
