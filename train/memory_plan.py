"""What of a run depends on its GPU's memory: the micro-batch and activation checkpointing, where they are `auto`.

    chosen = choose(plan, device_gib=80.0)
    plan = with_choice(plan, chosen)

Chosen is the least recomputation with which a micro-batch of `PREFERRED_TOKENS` fits (nothing, `selective`, `true`),
then the largest micro-batch that fits with it; the global batch stays as it is. A run records its choice in its folder
and its checkpoints and continues with it, because results depend on it in their last bits. Without a GPU, nothing
depends on memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from configs.batch_plan import BatchPlan, divisors, split_batch
from configs.run import RunConfig
from data_prep.byte_size import gib_size
from train.data.lengths import Counts
from train.distributed.world import all_gather_objects, run_on_main
from train.models.activation_memory import activation_bytes
from train.models.linear_probe import attach_probe
from train.models.meta_model import meta_model
from train.models.param_groups import count_parts
from train.optimization.zero import deepspeed_config, memory_estimate
from train.plan import MemoryChoice, RunPlan, plan_counts

GIB = 1024**3
USABLE = 0.9  # of a GPU's memory: the rest is for CUDA itself, collectives and fragmentation
PREFERRED_TOKENS = 2048  # a forward of fewer uses a GPU badly: recomputing costs less
LEVELS: tuple[bool | str, ...] = (False, "selective", True)  # from none to all


@dataclass(frozen=True)
class Estimate:
    """GiB of a rank: `fixed` for weights, gradients and optimizer, and the activations of a micro-batch."""

    plan: RunPlan
    model: Any  # on the meta device
    tokens: Counts

    @property
    def fixed(self) -> float:
        """Without activations."""
        counts = count_parts(self.model, self.plan.family, self.plan.config.optim)
        total, trainable = sum(row.total for row in counts), sum(row.trainable for row in counts)
        return memory_estimate(total, trainable, self.plan.config, self.plan.batches)["total"]

    def largest(self, micro_batch: int) -> tuple[int, int]:
        """Tokens and supervised tokens of the largest micro-batch."""
        train = self.plan.config.train
        if train.batching == "packed":
            share = self.tokens["supervised"].sum() / max(1, self.tokens["tokens"].sum())
            return train.token_budget, int(train.token_budget * share)
        tokens, targets = (int(np.max(self.tokens[name], initial=0)) for name in ("tokens", "supervised"))
        return micro_batch * tokens, micro_batch * targets

    def activations(self, micro_batch: int, checkpointing: bool | str) -> float | None:
        """None where they cannot be counted."""
        run, targets = self.largest(micro_batch)
        model = self.plan.config.model
        size = activation_bytes(self.model, self.plan.family, model.dtype, checkpointing, run, targets)
        return None if size is None else size / GIB


def estimate(plan: RunPlan) -> Estimate:
    """Of a plan; counts its tokens if they never were, loads no weight."""
    model = meta_model(plan.family, plan.config)
    if plan.probe_classes is not None:
        attach_probe(model, plan.family, len(plan.probe_classes.names), plan.config.seed)
    return Estimate(plan, model, plan_counts(plan.config, plan.sources))


def memory_decides(config: RunConfig) -> tuple[bool, bool]:
    """Whether memory decides about the micro-batch, and about activation checkpointing.

    About the micro-batch it does not where results depend on it, so that they do not depend on the GPU.
    """
    train = config.train
    counts = config.loss.reduction == "micro_batch" or train.batching in ("llava_groups", "packed")
    return train.micro_batch == "auto" and not counts, config.model.activation_checkpointing == "auto"


def choose(plan: RunPlan, device_gib: float | None) -> MemoryChoice:
    """The choice for a GPU of `device_gib`; None: no GPU, or its memory is not known."""
    by_batch, by_level = memory_decides(plan.config)
    given = plan.config.model.activation_checkpointing
    default = MemoryChoice(plan.batches.micro_batch, False if given == "auto" else given, plan.batches.world)
    if device_gib is None or not (by_batch or by_level):
        return default
    estimated = estimate(plan)
    if estimated.activations(1, False) is None:
        return replace(default, note="not chosen by memory: the activations of this model cannot be counted")
    batches = _micro_batches(plan) if by_batch else [plan.batches.micro_batch]
    fits: list[MemoryChoice] = []
    fixed = estimated.fixed
    for level in LEVELS if by_level else (default.activation_checkpointing,):
        for size in batches:
            activations = estimated.activations(size, level)
            if activations is None:  # selective, for layers without an MLP module
                break
            gib = fixed + activations
            if gib <= USABLE * device_gib:
                fits.append(MemoryChoice(size, level, default.world_size, f"{gib_size(gib)} of {gib_size(device_gib)}"))
                if size == batches[0] or estimated.largest(size)[0] >= PREFERRED_TOKENS:
                    return fits[-1]
                break
    if fits:
        return max(fits, key=lambda one: one.micro_batch)  # of equal ones the first, with less recomputation
    level = True if by_level else default.activation_checkpointing
    least = fixed + (estimated.activations(batches[-1], level) or 0.0)
    note = f"at least {gib_size(least)}, which does not fit {gib_size(device_gib)}"
    advice = "raise deepspeed.zero_stage or use more GPUs"
    return MemoryChoice(batches[-1], level, default.world_size, f"{note}: {advice}")


def _micro_batches(plan: RunPlan) -> list[int]:
    """Possible sizes, the largest first."""
    train, batches = plan.config.train, plan.batches
    return divisors(batches.global_batch // batches.world, train.micro_batch_cap)[::-1]


def with_choice(plan: RunPlan, choice: MemoryChoice) -> RunPlan:
    """`plan` with the chosen micro-batch and activation checkpointing."""
    split: BatchPlan = plan.batches
    if plan.config.train.batching != "packed":
        split = split_batch(replace(plan.config.train, micro_batch=choice.micro_batch), plan.batches.world)
    order = replace(plan.order, partitioner=replace(plan.order.partitioner, plan=split))
    return replace(plan, order=order, deepspeed=deepspeed_config(plan.config, split), memory=choice)


def own_device_memory() -> float | None:
    """GiB of this process's GPU; None without one."""
    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / GIB


def settle(plan: RunPlan, recorded: Mapping[str, Any] | None) -> RunPlan:
    """The plan with the choice that all ranks take: the checkpoint's `recorded` one, or the main rank's. Collective.

    A recorded micro-batch of another world size or global batch is chosen again.
    """
    smallest = min((gib for gib in all_gather_objects(own_device_memory()) if gib is not None), default=None)

    def decide() -> MemoryChoice:
        return _recorded(plan, recorded) or choose(plan, smallest)

    chosen = all_gather_objects(run_on_main(decide))[0]
    assert chosen is not None, "the main rank has decided"
    return with_choice(plan, chosen)


def _recorded(plan: RunPlan, record: Mapping[str, Any] | None) -> MemoryChoice | None:
    """The choice of an earlier start, with what the config now says in place of it where that is not `auto`."""
    share = plan.batches.global_batch // plan.batches.world
    if record is None or record["world_size"] != plan.batches.world or share % record["micro_batch"]:
        return None
    by_batch, by_level = memory_decides(plan.config)
    given = plan.config.model.activation_checkpointing
    size = record["micro_batch"] if by_batch else plan.batches.micro_batch
    level = record["activation_checkpointing"] if by_level else given
    return MemoryChoice(size, level, plan.batches.world, "as before" if by_batch or by_level else "")
