"""StableAdamW's update clipping: a smaller step for parameters with gradients above AdamW's second moment.

RMS_t = sqrt(mean(g^2 / max(v, eps^2))) for each parameter, where v is bias-corrected and includes this step's g; the
parameter's learning rate is divided by max(1, RMS_t). The moments are AdamW's. (Wortsman et al., "Stable and
low-precision training for large-scale vision-language models", arXiv 2304.13013, Algorithm 2: loss spikes follow 1 to 8
steps after v underestimates g^2.)

In ZeRO a rank updates flat shards that hold parts of parameters. The sums of g^2 / max(v, eps^2) are all-reduced, so
RMS_t is that of the whole parameter in every stage and world size: one all-reduce for each parameter group (ZeRO 3:
sub-group), with one number for each parameter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from train.distributed.world import World


@dataclass(frozen=True)
class Part:
    """Elements `start` to `end` of a tensor that the optimizer updates; they belong to parameter number `parameter`."""

    parameter: int
    start: int
    end: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A flat view of these elements."""
        return tensor.view(-1)[self.start : self.end]


Parts = Mapping[torch.Tensor, Sequence[Part]]


class UpdateClip:
    """Computes and applies the factor of each parameter's step. `sharded`: ranks hold different parts (ZeRO 1 to 3)."""

    def __init__(self, parts: Parts, sizes: Sequence[int], world: World, sharded: bool):
        """`parts` maps the tensors that this rank updates to their parts; `sizes`: elements of each whole parameter."""
        self.parts = parts
        self.sizes = torch.tensor(sizes, dtype=torch.float64)
        self.world = world
        self.sharded = sharded
        self.factors = [1.0] * len(sizes)  # of the last step, one for each parameter

    @torch.no_grad()
    def prepare(self, optimizer: torch.optim.Optimizer) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
        """Before the optimizer's step: (view, copy of its values, factor) of every part with a factor below 1."""
        sums = torch.zeros_like(self.sizes)
        found = []
        for group, tensor in _stepped(optimizer):
            for part in self.parts[tensor]:
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

    def factors_of(self, tensor: torch.Tensor) -> Iterator[tuple[Part, float]]:
        """The parts of a tensor with the factors of the last step."""
        for part in self.parts[tensor]:
            yield part, self.factors[part.parameter]


@torch.no_grad()
def shrink(prepared: Sequence[tuple[torch.Tensor, torch.Tensor, float]]) -> None:
    """After the step: scale each change (weight decay included) by its factor, as a smaller learning rate would."""
    for view, before, factor in prepared:
        view.copy_(torch.lerp(before, view, factor))


def _stepped(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            if tensor.grad is not None:
                yield group, tensor


def _sum_of_squares(group: Mapping[str, Any], part: Part, tensor: torch.Tensor, state: Mapping[str, Any]) -> float:
    """Sum of g^2 / max(v, eps^2) over a part, with the v of this step."""
    assert tensor.grad is not None
    beta = group["betas"][1]
    squares = part.of(tensor.grad).float().square()
    v = part.of(state["exp_avg_sq"]).float().mul(beta).add_(squares, alpha=1 - beta)
    v /= 1 - beta ** (float(state["step"]) + 1)
    return float((squares / v.clamp_(min=group["eps"] ** 2)).sum(dtype=torch.float64))


def find_parts(
    parameters: Sequence[nn.Parameter], optimizer: Any, stage: int, owned: Callable[[nn.Parameter], torch.Tensor]
) -> dict[torch.Tensor, list[Part]]:
    """The parts that DeepSpeed's `optimizer` of ZeRO `stage` updates on this rank; `owned` maps them in ZeRO 0."""
    found: dict[torch.Tensor, list[Part]] = {}
    for number, parameter in enumerate(parameters):
        if stage == 0:
            tensor, start, count = owned(parameter), 0, parameter.numel()
        elif stage == 3:
            index, start, count = optimizer.grad_position[optimizer.get_param_id(parameter)]
            tensor = optimizer.fp32_partitioned_groups_flat[index]
        else:
            here = parameter._hp_mapping  # type: ignore[attr-defined]
            if here is None:  # on other ranks only
                continue
            tensor = optimizer.single_partition_of_fp32_groups[here.param_group_index]
            start, count = here.hp_fragment_address.start, here.hp_fragment_address.numel
        found.setdefault(tensor, []).append(Part(number, start, start + count))
    if stage in (1, 2):  # a shard may hold padding only
        for tensor in optimizer.single_partition_of_fp32_groups:
            found.setdefault(tensor, [])
    return found
