"""A rank's progress for its watchdog: step, stage, time of the last sign of progress, seconds of its own work."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

STAGES = (
    "start",
    "report",
    "held-out",
    "checkpoint",
    "data",
    "before the step",
    "forward/backward",
    "sum of losses",
    "update",
    "leaving",
    "export",
)
"""In the order of a step, so that of two ranks the one further back is known. In two stages ranks only wait for each
other: in `before the step` the loss's denominator is summed and any rank may ask to stop; then `sum of losses`."""


class Position(NamedTuple):
    """Step and stage of a rank at one moment; one tuple, so that other threads read it atomically."""

    step: int  # optimizer steps done
    stage: str  # one of STAGES
    since: float  # seconds, time.monotonic(): the last sign of progress


@dataclass
class Progress:
    """Written by the training loop, read by the watching thread."""

    position: Position = field(default_factory=lambda: Position(0, "start", time.monotonic()))
    suspended: float = 0.0
    """Seconds in which this process did not run at all (stopped, swapped out) since the step began."""

    def enter(self, stage: str, step: int | None = None) -> None:
        """Enter `stage`, or record progress within it; `step` if it changes."""
        self.position = Position(self.position.step if step is None else step, stage, time.monotonic())

    def age(self) -> float:
        """Seconds since the last sign of progress."""
        return time.monotonic() - self.position.since


class ForwardClock:
    """Seconds a rank spent in its own forward passes of a step: what can be compared between ranks.

    The backward cannot: its last part waits for the slowest rank, so it takes equally long on all. Under ZeRO 3 the
    forward waits as well, and what is left to compare is waiting for data and standing still.
    """

    def __init__(self, module: nn.Module, progress: Progress, device: torch.device):
        """Measure `module`'s forward passes while it trains; each of them is a sign of progress."""
        self._progress = progress
        self._gpu = device.type == "cuda"
        self._marks: list[tuple[float | torch.cuda.Event, float | torch.cuda.Event]] = []
        self._began: float | torch.cuda.Event = 0.0
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after)

    def _before(self, module: nn.Module, inputs: object) -> None:  # noqa: ARG002 - the signature is torch's
        self._progress.enter(self._progress.position.stage)
        self._began = self._mark()

    def _after(self, module: nn.Module, inputs: object, output: object) -> None:  # noqa: ARG002
        if module.training:
            self._marks.append((self._began, self._mark()))

    def _mark(self) -> float | torch.cuda.Event:
        if not self._gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def take(self) -> float:
        """Seconds since the last call. On a GPU this waits for them, as reading the loss does."""
        total = 0.0
        for began, ended in self._marks:
            if isinstance(began, float) and isinstance(ended, float):
                total += ended - began
            elif isinstance(began, torch.cuda.Event) and isinstance(ended, torch.cuda.Event):
                ended.synchronize()
                total += began.elapsed_time(ended) / 1e3
        self._marks.clear()
        return total
