"""Recovery: find the samples with a non-finite loss, and roll back to an earlier checkpoint.

These functions are collective. The main rank chooses the candidates, because only it deletes checkpoints.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch

from configs.run_dir import RunDir
from train.checkpoints.agreement import agreed_checkpoint
from train.checkpoints.reading import Checkpoint, remove_checkpoint, steps_present
from train.data.order import DataPosition
from train.distributed.world import World, all_gather_objects
from train.models.batch import Batch
from train.optimization.full_state import ParameterState
from train.spikes.policy import Decision, SpikePolicy, choose_checkpoint, skip_data


class Restorable(Protocol):
    """The part of a trainer that a rollback needs."""

    position: DataPosition
    world: World

    def load_state(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        """Set weights, moments, AdamW's count of updates, and the monitor's state."""
        ...


def nonfinite_samples(batches: Sequence[Batch], sums: Sequence[torch.Tensor]) -> dict[int, list[str]]:
    """Rank to the ids of its samples whose loss is not finite. Collective; called only when there are some."""
    mine = [
        sample_id
        for batch, by_sample in zip(batches, sums, strict=True)
        for sample_id, finite in zip(batch.ids, torch.isfinite(by_sample).tolist(), strict=True)
        if not finite
    ]
    return {rank: ids for rank, ids in enumerate(all_gather_objects(mine)) if ids}


def roll_back(trainer: Restorable, run: RunDir, policy: SpikePolicy, decision: Decision) -> Decision | str:
    """Return to a checkpoint from before the problem and skip the data read since then.

    Returns a description, or the decision to stop if there is no such checkpoint. Later checkpoints are deleted,
    because a resumed run would start from them.
    """
    candidates = choose_checkpoint(steps_present(run), decision.since, policy.config.rollback_margin)
    checkpoint, problems = agreed_checkpoint(run, all_gather_objects(candidates)[0])
    skipped_checkpoints = "".join(f"; skipped {problem}" for problem in problems)
    if checkpoint is None:
        reason = f"{decision.reason}; no complete checkpoint from before step {decision.since}{skipped_checkpoints}"
        return Decision("stop", reason, decision.since)
    here, step = trainer.position, checkpoint.step
    missed = step if policy.config.reset_moments else int(checkpoint.state["policy"]["missed"])
    parameters = checkpoint.parameters()
    trainer.load_state(
        checkpoint, _without_moments(parameters) if policy.config.reset_moments else parameters, step - missed
    )
    before = DataPosition(step, tuple((first, last) for first, last in checkpoint.state["order"]["skipped"]))
    first, last = before.data_step(step), here.data_step(here.step)
    trainer.position = DataPosition(step, skip_data(here.skipped, first, last))
    policy.rolled_back(step, decision, missed)
    if trainer.world.is_main_process:
        for later in steps_present(run):
            if later > step:
                remove_checkpoint(run.checkpoint(later))
    trainer.world.barrier()
    return (
        f"from step {here.step} to the checkpoint of step {step}, skipping data steps {first} to {last - 1}, "
        f"learning rates x {policy.state.lr_scale:g}: {decision.reason}{skipped_checkpoints}"
    )


def _without_moments(parameters: Iterator[ParameterState]) -> Iterator[ParameterState]:
    for parameter in parameters:
        moments = {key: torch.zeros_like(value) for key, value in parameter.moments.items()}
        yield replace(parameter, moments=moments)


def with_advice(run: RunDir, decision: Decision) -> str:
    """Why a run is stopped, and the newest checkpoint from before the problem if later ones exist."""
    present = steps_present(run)
    before = [step for step in present if step < decision.since]
    if not before or before == present:
        return decision.reason
    good = run.checkpoint(max(before)).name
    return (
        f"{decision.reason}; the newest checkpoint from before step {decision.since} is {good}: --resume auto takes "
        "the newest of all, so move later ones away first"
    )
