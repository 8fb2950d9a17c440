"""StableAdamW's update clip: a parameter whose gradient has outgrown AdamW's second moment takes a smaller step.

RMS_t = sqrt(mean(g^2 / max(v, eps^2))) over each parameter, v with bias correction and this step's g in it; the
parameter's rate is divided by max(1, RMS_t). Moments are AdamW's own. (Wortsman et al., "Stable and low-precision
training for large-scale vision-language models", arXiv 2304.13013, Algorithm 2: loss spikes come 1 to 8 steps after v
under-estimates g^2.)

In ZeRO a rank steps flat shards that hold parts of parameters. The sums of g^2 / max(v, eps^2) are added up over the
ranks, so RMS_t is the whole parameter's in every stage and on every world: one all-reduce, of as many numbers as there
are parameters, for each parameter group (ZeRO 3: sub-group).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from train.distributed.world import World


@dataclass(frozen=True)
class Part:
    """Elements `start` to `end` of a tensor the optimizer steps belong to parameter number `parameter`."""

    parameter: int
    start: int
    end: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A flat view of them."""
        return tensor.view(-1)[self.start : self.end]


Parts = Mapping[torch.Tensor, Sequence[Part]]


class UpdateClip:
    """Finds the factor of each parameter's step and applies it. `sharded`: ranks hold different parts (ZeRO 1 to 3)."""

    def __init__(self, parts: Parts, sizes: Sequence[int], world: World, sharded: bool):
        """`parts` says what is in the tensors this rank steps, `sizes` how many elements each whole parameter has."""
        self.components = parts
        self.sizes = torch.tensor(sizes, dtype=torch.float64)
        self.world = world
        self.sharded = sharded
        self.factors = [1.0] * len(sizes)  # of the last step, by parameter

    @torch.no_grad()
    def prepare(self, optimizer: torch.optim.Optimizer) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
        """Before a step of the optimizer's groups: (view, its values now, factor) of all that must move less."""
        sums = torch.zeros_like(self.sizes)
        found = []
        for group, tensor in _stepped(optimizer):
            for part in self.components[tensor]:
                sums[part.parameter] += _sum_of_squares(group, part, tensor, optimizer.state[tensor])
                found.append((tensor, part))
        if self.sharded and self.world.size > 1:
            sums = sums.to(self.world.device)
            torch.distributed.all_reduce(sums)
            sums = sums.cpu()
        rms = (sums / self.sizes).sqrt()
        for number in {part.parameter for _, part in found}:
            self.factors[number] = 1 / max(1.0, float(rms[number]))
        less = [(part.of(tensor.data), self.factors[part.parameter]) for tensor, part in found]
        return [(view, view.clone(), factor) for view, factor in less if factor < 1]

    def held(self, tensor: torch.Tensor) -> Iterator[tuple[Part, float]]:
        """The parts of a tensor with the factors of the last step."""
        for part in self.components[tensor]:
            yield part, self.factors[part.parameter]


@torch.no_grad()
def shrink(prepared: Sequence[tuple[torch.Tensor, torch.Tensor, float]]) -> None:
    """After the step: what AdamW adds, decay included, is proportional to the rate; go back a part of the way."""
    for view, before, factor in prepared:
        view.copy_(torch.lerp(before, view, factor))


def _stepped(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            if tensor.grad is not None:
                yield group, tensor


def _sum_of_squares(group: Mapping[str, Any], part: Part, tensor: torch.Tensor, state: Mapping[str, Any]) -> float:
    """Sum of g^2 / max(v, eps^2) over a part, as this step will make v."""
    assert tensor.grad is not None
    beta = group["betas"][1]
    squares = part.of(tensor.grad).float().square()
    v = part.of(state["exp_avg_sq"]).float().mul(beta).add_(squares, alpha=1 - beta)
    v /= 1 - beta ** (float(state["step"]) + 1)
    return float((squares / v.clamp_(min=group["eps"] ** 2)).sum(dtype=torch.float64))


def find_parts(
    parameters: Sequence[nn.Parameter], optimizer: Any, stage: int, owned: Callable[[nn.Parameter], torch.Tensor]
) -> dict[torch.Tensor, list[Part]]:
    """What DeepSpeed's `optimizer` of ZeRO `stage` steps on this rank; `owned` answers for ZeRO 0."""
    found: dict[torch.Tensor, list[Part]] = {}
    for number, parameter in enumerate(parameters):
        if stage == 0:
            tensor, start, count = owned(parameter), 0, parameter.numel()
        elif stage == 3:
            index, start, count = optimizer.grad_position[optimizer.get_param_id(parameter)]
            tensor = optimizer.fp32_partitioned_groups_flat[index]
        else:
            here = parameter._hp_mapping  # type: ignore[attr-defined]
            if here is None:  # wholly on other ranks
                continue
            tensor = optimizer.single_partition_of_fp32_groups[here.param_group_index]
            start, count = here.hp_fragment_address.start, here.hp_fragment_address.numel
        found.setdefault(tensor, []).append(Part(number, start, start + count))
    if stage in (1, 2):  # a shard may hold nothing but padding
        for tensor in optimizer.single_partition_of_fp32_groups:
            found.setdefault(tensor, [])
    return found
