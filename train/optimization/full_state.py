"""The full training state of a DeepSpeed engine: every trained weight's fp32 master copy and AdamW's two moments.

Reading and setting use DeepSpeed's `safe_get_full_*` / `safe_set_full_*` in ZeRO 1 to 3 and the plain optimizer in
ZeRO 0, so a checkpoint does not depend on the stage or the world size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.distributed
from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class ParameterState:
    """Full fp32 tensors of one trainable parameter, on the CPU."""

    name: str
    master: torch.Tensor
    moments: dict[str, torch.Tensor]


class FullState:
    """The state of `trainable`: (name, parameter) pairs in the model's order."""

    def __init__(
        self,
        trainable: Sequence[tuple[str, nn.Parameter]],
        optimizer: Any,
        adamw: torch.optim.Optimizer,
        stage: int,
        device: torch.device,
    ):
        """`optimizer` is DeepSpeed's wrapper of `adamw`, or `adamw` itself in fp32 with ZeRO `stage` 0.

        Creates AdamW's moments: zero, at step 0.
        """
        self.trainable = trainable
        self.adamw = adamw
        self.stage = stage
        self.device = device
        self.sizes: list[int] = [getattr(p, "ds_numel", p.numel()) for _, p in trainable]  # in ZeRO 3 p itself is empty
        self._owned: dict[torch.Tensor, torch.Tensor] = {}
        if stage == 0 and optimizer is not adamw:
            self._owned = dict(zip(chain(*optimizer.fp16_groups), chain(*optimizer.fp32_groups), strict=True))
        self._start_moments(optimizer)

    @property
    def size(self) -> int:
        """Number of trained weights."""
        return sum(self.sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of master weights and moments."""
        return self.size * 4 * (1 + len(MOMENTS))

    def owned(self, parameter: nn.Parameter) -> torch.Tensor:
        """The tensor that ZeRO 0's AdamW updates for `parameter`: itself, or its fp32 copy in bf16."""
        return self._owned.get(parameter, parameter)

    def read(self) -> Iterator[ParameterState]:
        """Every parameter's state, one at a time. All ranks must iterate this, or `iter_full_state`, together."""
        for name, master, moments in self.iter_full_state():
            yield ParameterState(name, _copied(master), {key: _copied(value) for key, value in moments.items()})

    def iter_full_state(self) -> Iterator[tuple[str, torch.Tensor, dict[str, torch.Tensor]]]:
        """(name, master, moments) without copying, possibly as views: for ranks that only help to gather."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        for name, parameter in self.trainable:
            if self.stage:
                master = safe_get_full_fp32_param(parameter)
                moments = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            else:
                master = self.owned(parameter).detach()
                moments = {key: self.adamw.state[self.owned(parameter)][key] for key in MOMENTS}
            yield name, master, {key: value.reshape(master.shape) for key, value in moments.items()}

    def write(self, states: Iterator[ParameterState], step: int) -> None:
        """Set every parameter's state; `step` is AdamW's own step count. All ranks must call it together."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for (name, parameter), state in zip(self.trainable, states, strict=True):
            assert name == state.name, f"state of {state.name} for parameter {name}"
            master = state.master.to(self.device)
            if self.stage:
                safe_set_full_fp32_param(parameter, master)
                for key in MOMENTS:
                    safe_set_full_optimizer_state(parameter, state.moments[key].to(self.device), key)
            else:
                owned = self.owned(parameter)
                owned.data.copy_(master)
                moments = {key: state.moments[key].to(owned.device, copy=True) for key in MOMENTS}
                self.adamw.state[owned] = {"step": _step(step, owned), **moments}
            self._set_low_precision(parameter, master)
        if self.stage:
            for partition, saved in self.adamw.state.items():
                saved["step"] = _step(step, partition)

    def _start_moments(self, optimizer: Any) -> None:
        """Create AdamW's moments in every stage.

        DeepSpeed 0.19 does not: ZeRO 1 and 2 link the moments to the parameters after the first step of the first
        parameter group only, so those of a second group could not be read; and bf16 without ZeRO takes a step with
        zero gradients when it is initialised, which shifts the bias correction and applies weight decay once.
        """
        if self.stage:
            flat = "fp32_partitioned_groups_flat" if self.stage == 3 else "single_partition_of_fp32_groups"
            for partition in getattr(optimizer, flat):
                self.adamw.state[partition] = _zero_moments(partition)
            if self.stage < 3:
                optimizer._lazy_init_hp_params_optimizer_state()
            return
        for _, parameter in self.trainable:
            owned = self.owned(parameter)
            if owned is not parameter:
                owned.data.copy_(parameter.data)
            self.adamw.state[owned] = _zero_moments(owned)

    def _set_low_precision(self, parameter: nn.Parameter, master: torch.Tensor) -> None:
        """Copy the master into the weights the forward pass uses."""
        if self.stage == 3:
            parameter.ds_tensor.data.copy_(_partition(parameter, master))  # type: ignore[attr-defined]
        else:
            parameter.data.copy_(master)


def _zero_moments(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"step": _step(0, parameter)} | {key: torch.zeros_like(parameter) for key in MOMENTS}


def _step(count: int, parameter: torch.Tensor) -> torch.Tensor:
    """AdamW's count of steps, where its fused kernel reads it."""
    return torch.tensor(float(count), device=parameter.device)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """An fp32 copy on the CPU, converted and copied in one operation."""
    return tensor.detach().to("cpu", torch.float32, copy=True)


def _partition(parameter: Any, full: torch.Tensor) -> torch.Tensor:
    """This rank's ZeRO-3 share of a full tensor, zero-padded to the share's length."""
    share = parameter.ds_tensor.numel()
    flat = full.flatten()
    start = torch.distributed.get_rank() * share
    part = flat[start : start + share]
    return torch.nn.functional.pad(part, (0, share - part.numel())).to(parameter.ds_tensor.dtype)
