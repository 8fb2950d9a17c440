"""What the trainer does about trouble: name the samples behind a NaN, go back to a checkpoint from before.

Every rank calls these together; the leading rank chooses the checkpoint, since it alone may have deleted one.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch
import torch.distributed

from configs.errors import RunError
from configs.run_dir import RunDir
from train.batches import StepData
from train.checkpoints import Checkpoint, open_checkpoint, steps_present
from train.distributed import World
from train.engine import ParameterState
from train.epochs import OrderState
from train.spikes.actions import Actions, Decision, choose_checkpoint, skip_data


class Restorable(Protocol):
    """What of a trainer is needed to set it back."""

    order: OrderState
    world: World

    def write_back(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        """Set weights, moments, AdamW's count of updates, and the monitor."""
        ...


def suspects(world: World, data: StepData, sums: Sequence[torch.Tensor]) -> dict[int, list[str]]:
    """Rank to the ids of its samples whose loss is not finite. Collective; called only when there are some."""
    mine = [
        sample_id
        for batch, by_sample in zip(data.batches, sums, strict=True)
        for sample_id, finite in zip(batch.ids, torch.isfinite(by_sample).tolist(), strict=True)
        if not finite
    ]
    everyone: list[list[str]] = [mine]
    if world.size > 1:
        everyone = [[] for _ in range(world.size)]
        torch.distributed.all_gather_object(everyone, mine)
    return {rank: ids for rank, ids in enumerate(everyone) if ids}


def roll_back(trainer: Restorable, run: RunDir, actions: Actions, decision: Decision) -> Decision | str:
    """Go back to a checkpoint from before the trouble and skip the data seen since.

    Returns what was done in words, or the decision to stop where there is no such checkpoint. Checkpoints after that
    one are deleted: they hold the trouble, and a resume must not find them.
    """
    step = _agreed_step(trainer.world, run, decision, actions.config.rollback_margin)
    if step is None:
        return Decision("stop", f"{decision.reason}; no checkpoint from before step {decision.since}", decision.since)
    checkpoint = open_checkpoint(run, step)
    here = trainer.order
    saved = checkpoint.state.get("actions") or {"missed": 0}
    missed = step if actions.config.reset_moments else int(saved["missed"])
    parameters = checkpoint.parameters()
    trainer.write_back(
        checkpoint, _without_moments(parameters) if actions.config.reset_moments else parameters, step - missed
    )
    before = OrderState(step, tuple((first, last) for first, last in checkpoint.state["order"]["skipped"]))
    first, last = before.data_step(step), here.data_step(here.step)
    trainer.order = OrderState(step, skip_data(here.skipped, first, last))
    actions.rolled_back(step, decision, missed)
    if trainer.world.leads:
        for later in steps_present(run):
            if later > step:
                shutil.rmtree(run.checkpoint(later))
    trainer.world.barrier()
    return (
        f"from step {here.step} to the checkpoint of step {step}, skipping data steps {first} to {last - 1}, "
        f"learning rates x {actions.memory.lr_scale:g}: {decision.reason}"
    )


def _agreed_step(world: World, run: RunDir, decision: Decision, margin: int) -> int | None:
    """The leading rank's choice: the best candidate that is whole."""
    chosen = -1
    if world.leads:
        for step in choose_checkpoint(steps_present(run), decision.since, margin):
            try:
                chosen = open_checkpoint(run, step).step
            except (RunError, json.JSONDecodeError, KeyError):
                continue
            break
    agreed = int(world.all_max(chosen))
    return None if agreed < 0 else agreed


def _without_moments(parameters: Iterator[ParameterState]) -> Iterator[ParameterState]:
    for parameter in parameters:
        moments = {key: torch.zeros_like(value) for key, value in parameter.moments.items()}
        yield replace(parameter, moments=moments)
