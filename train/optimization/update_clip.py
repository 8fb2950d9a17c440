"""StableAdamW's update clipping: a smaller step for parameters with gradients above AdamW's second moment.

RMS_t = sqrt(mean(g^2 / max(v, eps^2))) for each parameter, where v is bias-corrected and includes this step's g; the
parameter's learning rate is divided by max(1, RMS_t). The moments are AdamW's. (Wortsman et al., "Stable and
low-precision training for large-scale vision-language models", arXiv 2304.13013, Algorithm 2: loss spikes follow 1 to 8
steps after v underestimates g^2.)

In ZeRO a rank updates flat shards that hold parts of parameters. The sums of g^2 / max(v, eps^2) are all-reduced, so
RMS_t is that of the whole parameter in every stage and world size: one all-reduce for each parameter group (ZeRO 3:
sub-group), with one number for each parameter. A GPU is waited for once for each of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from train.distributed.world import World
from train.optimization.tensor_lists import Part, Parts, Pieces, UpdateCounts, stepped_pieces


@dataclass
class Clipped:
    """Views of weights whose step is reduced, their values before it, and the factors."""

    weights: list[torch.Tensor] = field(default_factory=list)
    before: list[torch.Tensor] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    @torch.no_grad()
    def shrink(self) -> None:
        """After the step: scale each change (weight decay included) by its factor, as a smaller learning rate would."""
        if self.weights:
            changes = torch._foreach_sub(self.weights, self.before)
            torch._foreach_mul_(changes, self.factors)
            torch._foreach_add_(self.before, changes)
            torch._foreach_copy_(self.weights, self.before)


class UpdateClip:
    """Computes and applies the factor of each parameter's step. `sharded`: ranks hold different parts (ZeRO 1 to 3)."""

    def __init__(self, parts: Parts, sizes: Sequence[int], world: World, sharded: bool):
        """`parts` maps the tensors that this rank updates to their parts; `sizes`: elements of each whole parameter."""
        self.parts = parts
        self.sizes = torch.tensor(sizes, dtype=torch.float64, device=world.device)
        self.world = world
        self.sharded = sharded
        self.factors = [1.0] * len(sizes)  # of the last step, one for each parameter

    @torch.no_grad()
    def prepare(self, optimizer: torch.optim.Optimizer, counts: UpdateCounts) -> Clipped:
        """Before the optimizer's step: the parts with a factor below 1, their values copied."""
        last = len(self.sizes)  # collects what belongs to no parameter
        sums = torch.zeros(last + 1, dtype=torch.float64, device=self.world.device)
        found = list(stepped_pieces(optimizer, counts, self.parts))
        for pieces in found:
            numbers = torch.tensor([last if one < 0 else one for one in pieces.parameters], device=sums.device)
            sums.index_add_(0, numbers, _sums_of_squares(pieces).to(sums.device))
        if self.sharded and self.world.size > 1:
            torch.distributed.all_reduce(sums)
        factors = (sums[:last] / self.sizes).sqrt().clamp_(min=1).reciprocal_().tolist()
        for number in {number for pieces in found for number in pieces.parameters if number >= 0}:
            self.factors[number] = factors[number]
        clipped = Clipped()
        for pieces in found:
            pairs = zip(pieces.weights, self.factors_of(pieces), strict=True)
            less = [(weight, factor) for weight, factor in pairs if factor < 1]
            if less:
                clipped.weights += [weight for weight, _ in less]
                clipped.before += torch._foreach_mul([weight for weight, _ in less], 1.0)
                clipped.factors += [factor for _, factor in less]
        return clipped

    def factors_of(self, pieces: Pieces) -> list[float]:
        """The factor of the last step for each of `pieces`."""
        return [1.0 if number < 0 else self.factors[number] for number in pieces.parameters]


def _sums_of_squares(pieces: Pieces) -> torch.Tensor:
    """Sum of g^2 / max(v, eps^2) of each piece, with the v of this step; in double precision."""
    beta = pieces.group["betas"][1]
    squares = torch._foreach_mul(pieces.gradients, pieces.gradients)
    v = torch._foreach_mul(pieces.second, beta)
    torch._foreach_add_(v, squares, alpha=1 - beta)
    torch._foreach_div_(v, [1 - beta ** (count + 1) for count in pieces.counts])
    torch._foreach_clamp_min_(v, pieces.group["eps"] ** 2)
    torch._foreach_div_(squares, v)
    return torch.stack(torch._foreach_norm(squares, 1, dtype=torch.float64))  # none is negative


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
