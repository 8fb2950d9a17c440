"""How far a run is, and how its last start ended, from its files on this machine alone.

`launch.run_state` knows more: SLURM's states, hangs, and how long a run has been silent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import UserError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.file_lock import is_held
from data_prep.provenance import FINISHED, read_starts

TRAINING = "training"


def ending(run: RunDir) -> str:
    """`training` while a process holds the run; else how its last start ended. Empty for a run without a start."""
    if is_held(run.lock):
        return TRAINING
    starts = read_starts(run.provenance)
    if not starts:
        return ""
    if starts[-1].get("end") is None:
        return "no end recorded: interrupted, or training on another machine (python -m launch.watch says which)"
    outcome = str(starts[-1].get("outcome"))
    return outcome if outcome == FINISHED else f"not finished: {outcome}"


def total_steps(run: RunDir, metrics: Sequence[Mapping[str, Any]]) -> int | None:
    """The run's number of optimizer steps, or None before its first step.

    A step is the same part of every epoch, so `step / epoch` of any line is the number of steps of one epoch.
    """
    done = [record for record in metrics if all(_is_number(record.get(key)) for key in ("step", "epoch"))]
    if not done or not done[-1]["epoch"] > 0:
        return None
    try:
        train = load_config(RunConfig, run.config)[0].train
    except UserError:
        return None  # without a readable config only the number is missing
    steps: int = train.epochs * round(done[-1]["step"] / done[-1]["epoch"])
    return min(steps, train.max_steps or steps)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
