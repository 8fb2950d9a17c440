"""train/finetune.py with faults, which the environment variable FAULTS names as JSON.

nan     step (from 0) in which rank 1's loss is NaN in the first micro-batch
zero    if given: every gradient is 0, as if no sample taught anything
kill    [step, micro-batch]: every rank kills itself with SIGKILL at that forward
full    [[first, last], ...]: the disk of the checkpoints is full from step `first` on and has room again from `last` on
fill    step whose save finds room, on a disk that another process fills up while it writes
hang    name of a file whose fsync never returns once the run was asked to stop; `hanging` in the run's folder says so
"""

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT / "train")  # what running the real entry would put there
sys.path.insert(1, str(ROOT))

from train import finetune
from train.models.loss_module import LossModule
from train.supervision import signals
from train.trainer import Trainer

faults = json.loads(os.environ.get("FAULTS", "{}"))
trainers: list[Trainer] = []
calls: list[int] = []  # the step of each training forward


def remembered(self: Trainer, *arguments: Any, original: Any = Trainer.__init__, **named: Any) -> None:
    original(self, *arguments, **named)
    trainers.append(self)


def forward(self: LossModule, batch: Any, original: Any = LossModule.forward) -> Any:
    if not self.training:
        return original(self, batch)
    step = trainers[0].position.step
    micro_batch = calls.count(step)
    calls.append(step)
    if micro_batch == 0:
        fill_or_empty(step)
    if faults.get("kill") == [step, micro_batch]:
        os.kill(os.getpid(), signal.SIGKILL)
    loss, by_sample = original(self, batch)
    if faults.get("zero"):
        return loss * 0.0, by_sample
    if faults.get("nan") == step and micro_batch == 0 and trainers[0].world.rank == 1:
        return loss * float("nan"), by_sample * float("nan")
    return loss, by_sample


def fill_or_empty(step: int) -> None:
    """A neighbour on the disk that takes all the room, and gives it back."""
    for first, last in faults.get("full", []):
        if step == first:
            fill()
        elif step == last:
            ballast().unlink()


def ballast() -> Path:
    return trainers[0].plan.run.checkpoints / "ballast"


def fill() -> None:
    with contextlib.suppress(OSError), ballast().open("ab", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass


def before_opening(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).endswith(f"{faults['fill']:08d}.tmp/optimizer.safetensors"):
        fill()


def fsync(descriptor: int, original: Any = os.fsync) -> None:
    name = Path(f"/proc/self/fd/{descriptor}").readlink().name
    if name == faults["hang"] and signals.stop_requested():
        (trainers[0].plan.run.root / "hanging").touch()
        threading.Event().wait()
    original(descriptor)


Trainer.__init__ = remembered  # type: ignore[method-assign]
LossModule.forward = forward  # type: ignore[method-assign]
if "fill" in faults:
    sys.addaudithook(before_opening)
if "hang" in faults:
    os.fsync = fsync

if __name__ == "__main__":
    finetune.main()
