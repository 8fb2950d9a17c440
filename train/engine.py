"""DeepSpeed behind five verbs: accumulate gradients, update, read the full training state, set it, measure a loss.

The state of a parameter is its fp32 master copy and AdamW's two moments. Reading and setting go through DeepSpeed's
`safe_get_full_*` / `safe_set_full_*` in ZeRO 1 to 3 and through the plain optimizer in ZeRO 0, so a checkpoint does not
depend on stage or world size.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from configs.schema import OptimConfig
from train.adapters import parameter_groups
from train.distributed import World
from train.gated_adamw import GatedAdamW
from train.model import Batch, LossModule
from train.update_clip import UpdateClip, find_parts

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Losses:
    """What the micro-batches of a step had on this rank."""

    mean: float  # this rank's part of the global loss
    sums: list[torch.Tensor]  # cross-entropy sum of each conversation, (C,) per micro-batch, on the CPU


@dataclass(frozen=True)
class Update:
    """What became of a step; `grad_norm` is global and taken before clipping."""

    grad_norm: float
    applied: bool  # False: weights, moments and AdamW's step count are as they were
    rms: float | None  # root mean square of the update, if it is measured


@dataclass
class ParameterState:
    """Full fp32 tensors of one trainable parameter, on the CPU."""

    name: str
    master: torch.Tensor
    moments: dict[str, torch.Tensor]


class Engine:
    """A DeepSpeed engine around the loss module."""

    def __init__(self, module: LossModule, settings: dict[str, Any], optim: OptimConfig, world: World):
        """`settings` is DeepSpeed's configuration (`train.zero`). Moves the module to the rank's device."""
        import deepspeed

        warnings.filterwarnings("ignore", message=".*all_gather_into_tensor.*", category=FutureWarning)  # DeepSpeed's
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        self.stage = int(settings["zero_optimization"]["stage"])
        self.world = world
        self.accumulation = int(settings["gradient_accumulation_steps"])
        groups = parameter_groups(module.model, module.family, optim)
        optimizer = GatedAdamW(groups, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay)
        self.module = module
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=settings, dist_init_required=False
        )
        self.trainable = [(name, p) for name, p in module.model.named_parameters() if p.requires_grad]
        self.size: int = sum(getattr(p, "ds_numel", p.numel()) for _, p in self.trainable)  # ZeRO 3 leaves p empty
        self._start_moments()
        self.adamw = optimizer
        if optim.update_clip == "stable":
            parameters = [parameter for _, parameter in self.trainable]
            sizes = [getattr(parameter, "ds_numel", parameter.numel()) for parameter in parameters]
            parts = find_parts(parameters, self.optimizer, self.stage, self._owned)
            optimizer.clip = UpdateClip(parts, sizes, world, sharded=self.stage > 0)
        self._norm = math.nan
        optimizer.gate.norm = lambda: self._norm if self._plain else self.optimizer._global_grad_norm

    def accumulate(self, batches: Sequence[Batch]) -> Losses:
        """Forward and backward of a step's micro-batches. `update` must follow.

        Their number may differ from step to step, as packing needs it, but not from rank to rank. The loss is scaled
        by the configured number of them (`train.loss`), so what a step computes does not depend on it.
        """
        self.engine.train()
        losses, sums = [], []
        for number, batch in enumerate(batches):
            if number:
                self.engine.step()  # counts the micro-batch before; the last one's is the update
            self.engine.set_gradient_accumulation_boundary(number == len(batches) - 1)
            loss, by_sample = self.engine(batch.to(self.world.device))
            self.engine.backward(loss)
            losses.append(loss.detach())
            sums.append(by_sample)
        parts = torch.stack(losses).tolist()  # here at the end: a GPU is waited for once a step
        mean = sum(part / (self.world.size * self.accumulation) for part in parts)
        return Losses(mean, [by_sample.cpu() for by_sample in sums])

    def update(self, factor: float, limit: float = math.inf) -> Update:
        """One AdamW update at `factor` times the peak rates, unless the gradient norm is not finite or above `limit`.

        All ranks must pass the same.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        if self._plain:  # gradients are summed over the ranks by now, so all find the same norm
            self._norm = _gradient_norm(p for _, p in self.trainable)
        self.adamw.squares = 0.0
        self.adamw.gate.prepare(limit)
        self.engine.step()
        return Update(self._norm_seen(), self.adamw.gate.applied, self._update_rms())

    @property
    def rates(self) -> dict[str, float]:
        """Part of the model to the learning rate of its last update."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def _norm_seen(self) -> float:
        """The gradient norm of this step; after a step that DeepSpeed refused itself, ZeRO 3 still holds the last."""
        gate = self.adamw.gate
        if self._plain:
            return self._norm
        return float(self.engine.get_global_grad_norm()) if gate.asked else math.inf

    def _update_rms(self) -> float | None:
        if not self.adamw.measure:
            return None
        squares = self.adamw.squares
        if self.stage:  # each rank has updated its shard
            squares = self.world.all_sum([squares])[0]
        return math.sqrt(squares / self.size)

    @torch.no_grad()
    def measure(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy sum of each conversation (B,), without touching gradients."""
        self.engine.eval()
        _, by_sample = self.engine(batch.to(self.world.device))
        sums: torch.Tensor = by_sample.cpu()
        return sums

    @property
    def state_bytes(self) -> int:
        """Bytes of the full training state: weights and moments in fp32."""
        return self.size * 4 * (1 + len(MOMENTS))

    @property
    def _plain(self) -> bool:
        """True if the optimizer is torch's own: ZeRO 0 in fp32."""
        return isinstance(self.optimizer, torch.optim.Optimizer)

    def read_state(self) -> Iterator[ParameterState]:
        """Every trainable parameter's full state, one at a time. All ranks must iterate this, or `gather`, together."""
        for name, master, moments in self.gather():
            yield ParameterState(name, _copied(master), {key: _copied(value) for key, value in moments.items()})

    def gather(self) -> Iterator[tuple[str, torch.Tensor, dict[str, torch.Tensor]]]:
        """(name, master, moments) where they lie, maybe as views: for ranks that only help another to read them."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        for name, parameter in self.trainable:
            if self.stage:
                master = safe_get_full_fp32_param(parameter)
                moments = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            else:
                owned = self._owned(parameter)
                master = owned.detach()
                moments = {key: self._inner.state[owned][key] for key in MOMENTS}
            yield name, master, {key: value.reshape(master.shape) for key, value in moments.items()}

    def write_state(self, states: Iterator[ParameterState], step: int) -> None:
        """Set every trainable parameter's state; `step` is AdamW's own step count. All ranks must call it together."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for (name, parameter), state in zip(self.trainable, states, strict=True):
            assert name == state.name, f"state of {state.name} for parameter {name}"
            master = state.master.to(self.world.device)
            if self.stage:
                safe_set_full_fp32_param(parameter, master)
                for key in MOMENTS:
                    safe_set_full_optimizer_state(parameter, state.moments[key].to(self.world.device), key)
            else:
                owned = self._owned(parameter)
                owned.data.copy_(master)
                moments = {key: state.moments[key].to(owned.device).clone() for key in MOMENTS}
                self._inner.state[owned] = {"step": torch.tensor(float(step)), **moments}
            self._set_low_precision(parameter, master)
        if self.stage:
            for saved in self._inner.state.values():
                saved["step"] = torch.tensor(float(step))

    @property
    def _inner(self) -> torch.optim.Optimizer:
        """torch's AdamW inside DeepSpeed's wrapper."""
        inner: torch.optim.Optimizer = self.optimizer if self._plain else self.optimizer.optimizer
        return inner

    def _owned(self, parameter: nn.Parameter) -> torch.Tensor:
        """The tensor that ZeRO 0's AdamW updates for `parameter`: itself, or its fp32 copy in bf16."""
        if self._plain:
            return parameter
        for low, high in zip(self.optimizer.fp16_groups, self.optimizer.fp32_groups, strict=True):
            for low_parameter, high_parameter in zip(low, high, strict=True):
                if low_parameter is parameter:
                    found: torch.Tensor = high_parameter
                    return found
        raise AssertionError("a trainable parameter is unknown to the optimizer")

    def _start_moments(self) -> None:
        """Create AdamW's moments, zero and at step 0, in every stage.

        DeepSpeed 0.19 does so unevenly: ZeRO 1 and 2 link the moments to the parameters after the first parameter
        group's first step only, so those of a second group could not be read; and bf16 without ZeRO takes a step
        with zero gradients when it is initialised, which shifts the bias correction and applies weight decay once.
        """
        if self.stage:
            flat = "fp32_partitioned_groups_flat" if self.stage == 3 else "single_partition_of_fp32_groups"
            for partition in getattr(self.optimizer, flat):
                self._inner.state[partition] = _zero_moments(partition)
            if self.stage < 3:
                self.optimizer._lazy_init_hp_params_optimizer_state()
            return
        for _, parameter in self.trainable:
            owned = self._owned(parameter)
            if owned is not parameter:
                owned.data.copy_(parameter.data)
            self._inner.state[owned] = _zero_moments(owned)

    def _set_low_precision(self, parameter: nn.Parameter, master: torch.Tensor) -> None:
        """Copy the master into the weights the forward pass uses."""
        if self.stage == 3:
            parameter.ds_tensor.data.copy_(_partition(parameter, master))  # type: ignore[attr-defined]
        else:
            parameter.data.copy_(master)


def _zero_moments(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"step": torch.tensor(0.0)} | {key: torch.zeros_like(parameter) for key in MOMENTS}


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """An fp32 copy on the CPU, made in one go."""
    return tensor.detach().to("cpu", torch.float32, copy=True)


def _partition(parameter: Any, full: torch.Tensor) -> torch.Tensor:
    """This rank's ZeRO-3 share of a full tensor, zero-padded to the share's length."""
    import torch.distributed

    share = parameter.ds_tensor.numel()
    flat = full.flatten()
    start = torch.distributed.get_rank() * share
    part = flat[start : start + share]
    return torch.nn.functional.pad(part, (0, share - part.numel())).to(parameter.ds_tensor.dtype)


def _gradient_norm(parameters: Iterator[nn.Parameter]) -> float:
    """2-norm of all gradients together."""
    norms = [p.grad.detach().float().norm() for p in parameters if p.grad is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0
