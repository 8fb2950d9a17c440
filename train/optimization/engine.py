"""DeepSpeed behind three verbs: accumulate gradients, update, measure a loss; its `state` can be read and set."""

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from configs.gradient_buckets import with_buckets
from configs.training import OptimConfig
from train.distributed.world import World
from train.models.batch import Batch
from train.models.loss_module import LossModule
from train.models.param_groups import parameter_groups
from train.optimization.full_state import FullState
from train.optimization.fused_update import fuse_update, total_norm
from train.optimization.gated_adamw import GatedAdamW
from train.optimization.update_clip import UpdateClip, find_parts


@dataclass(frozen=True)
class Losses:
    """What the micro-batches of a step had on this rank."""

    contribution: float  # this rank's part of the global loss
    sums: list[torch.Tensor]  # cross-entropy sum of each conversation, (C,) per micro-batch, on the CPU
    probes: list[torch.Tensor] = field(default_factory=list)  # the same of a linear probe's classes; empty without one

    @property
    def by_sample(self) -> list[torch.Tensor]:
        """All that each conversation adds, (C,) per micro-batch."""
        return [a + b for a, b in zip(self.sums, self.probes, strict=True)] if self.probes else self.sums


@dataclass(frozen=True)
class Update:
    """What became of a step; `grad_norm` is global and taken before clipping."""

    grad_norm: float
    applied: bool  # False: weights, moments and AdamW's step count are as they were
    rms: float | None  # root mean square of the update, if it is measured


class Engine:
    """A DeepSpeed engine around the loss module."""

    def __init__(self, module: LossModule, settings: dict[str, Any], optim: OptimConfig, world: World):
        """`settings` is DeepSpeed's configuration (`zero.py`). Moves the module to the rank's device."""
        import deepspeed

        warnings.filterwarnings("ignore", message=".*all_gather_into_tensor.*", category=FutureWarning)  # DeepSpeed's
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self.stage = int(settings["zero_optimization"]["stage"])
        self.world = world
        self.accumulation = int(settings["gradient_accumulation_steps"])
        groups = parameter_groups(module.model, module.family, optim)
        trained = sum(getattr(p, "ds_numel", p.numel()) for group in groups for p in group["params"])
        settings = with_buckets(settings, trained, world.size)
        optimizer = GatedAdamW(groups, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay)
        self.module = module
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=settings, dist_init_required=False
        )
        self.trainable = [(name, p) for name, p in module.model.named_parameters() if p.requires_grad]
        self.adamw = optimizer
        self.state = FullState(self.trainable, self.optimizer, self.adamw, self.stage, world.device)
        if optim.update_clip == "stable":
            parameters = [parameter for _, parameter in self.trainable]
            parts = find_parts(parameters, self.optimizer, self.stage, self.state.owned)
            optimizer.clip = UpdateClip(parts, self.state.sizes, world, sharded=self.stage > 0)
        self._norm = math.nan  # of the gradients in ZeRO 0
        optimizer.gate.norm = lambda: self._norm if self.stage == 0 else self.optimizer._global_grad_norm
        fuse_update(self.engine, self.optimizer, self.stage, lambda: self._norm)

    def accumulate(self, batches: Sequence[Batch]) -> Losses:
        """Forward and backward of a step's micro-batches. `update` must follow.

        Their number may differ from step to step, as packing needs it, but not from rank to rank. The loss is scaled
        by the configured number of them (`train.loss`), so what a step computes does not depend on it.
        """
        self.engine.train()
        losses, sums, probes = [], [], []
        for number, batch in enumerate(batches):
            if number:
                self.engine.step()  # counts the micro-batch before; the last one's is the update
            self.engine.set_gradient_accumulation_boundary(number == len(batches) - 1)
            loss, by_sample, *probed = self.engine(batch.to(self.world.device))
            self.engine.backward(loss)
            losses.append(loss.detach())
            sums.append(by_sample)
            probes += probed
        values = [torch.stack(losses), *sums, *probes]
        if self.stage == 0:  # gradients are summed over the ranks by now, so all find the same norm
            values.append(total_norm(p.grad for _, p in self.trainable if p.grad is not None).view(1))
        read = torch.cat(
            [value.to(self.world.device) for value in values]
        ).cpu()  # waits for the GPU, as each batch does for its targets
        parts, *by_samples = torch.split(read, [len(value) for value in values])
        if self.stage == 0:
            self._norm = float(by_samples.pop())
        contribution = sum(part / (self.world.size * self.accumulation) for part in parts.tolist())
        return Losses(contribution, by_samples[: len(sums)], by_samples[len(sums) :])

    def update(self, factor: float, limit: float = math.inf) -> Update:
        """One AdamW update at `factor` times the peak rates, unless the gradient norm is not finite or above `limit`.

        All ranks must pass the same.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self.adamw.gate.prepare(limit)
        self.engine.step()
        return Update(self._norm_seen(), self.adamw.gate.applied, self._update_rms())

    @property
    def rates(self) -> dict[str, float]:
        """Part of the model to the learning rate of its last update."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def _norm_seen(self) -> float:
        """The gradient norm of this step; after a step that DeepSpeed refused itself, ZeRO 3 still holds the last."""
        if self.stage == 0:
            return self._norm
        norm = self.adamw.gate.norm_read
        return math.inf if norm is None or norm < 0 else norm

    def _update_rms(self) -> float | None:
        if not self.adamw.measure:
            return None
        squares = self.adamw.take_squares()
        if self.stage:  # each rank has updated its shard
            squares = self.world.all_sum([squares])[0]
        return math.sqrt(squares / self.state.size)

    @torch.no_grad()
    def measure(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy sum of each conversation (B,), without touching gradients."""
        self.engine.eval()
        _, by_sample, *_ = self.engine(batch.to(self.world.device))
        sums: torch.Tensor = by_sample.cpu()
        return sums
