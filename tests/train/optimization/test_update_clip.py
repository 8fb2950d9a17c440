"""The update clip of StableAdamW against a slow reference; its ZeRO stages are in faults/test_skipped_steps.py."""

import math

import pytest
import torch

from train.distributed.world import World
from train.optimization.gated_adamw import GatedAdamW
from train.optimization.tensor_lists import Part
from train.optimization.update_clip import UpdateClip

LR, BETAS, EPS, DECAY = 0.01, (0.9, 0.99), 1e-6, 0.1
ALONE = World(0, 1, 0, torch.device("cpu"))


def slow_step(w: list[float], g: list[float], m: list[float], v: list[float], t: int) -> float:
    """Algorithm 2 of arXiv 2304.13013 on one parameter, number by number, in place; returns RMS_t."""
    total = 0.0
    for i in range(len(w)):
        m[i] = BETAS[0] * m[i] + (1 - BETAS[0]) * g[i]
        v[i] = BETAS[1] * v[i] + (1 - BETAS[1]) * g[i] ** 2
        total += g[i] ** 2 / max(v[i] / (1 - BETAS[1] ** t), EPS**2)
    rms = math.sqrt(total / len(w))
    rate = LR / max(1.0, rms)
    for i in range(len(w)):
        step = m[i] / (1 - BETAS[0] ** t) / (math.sqrt(v[i] / (1 - BETAS[1] ** t)) + EPS)
        w[i] = w[i] - rate * DECAY * w[i] - rate * step
    return rms


def gradient(size: int, step: int) -> torch.Tensor:
    """The first parameter's grows a hundredfold in step 6."""
    generator = torch.Generator().manual_seed(100 * size + step)
    return torch.randn(size, generator=generator) * (100 if step == 6 and size == 5 else 1)


def flat_optimizer(clipped: bool) -> GatedAdamW:
    """Two parameters of 5 and 7 elements in one flat tensor, as ZeRO keeps them."""
    torch.manual_seed(0)
    flat = torch.nn.Parameter(torch.randn(12))
    optimizer = GatedAdamW([{"params": [flat]}], lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY, measure=True)
    optimizer.state[flat] = {"step": torch.tensor(0.0), "exp_avg": torch.zeros(12), "exp_avg_sq": torch.zeros(12)}
    if clipped:
        optimizer.clip = UpdateClip({flat: [Part(0, 0, 5), Part(1, 5, 12)]}, [5, 7], ALONE, sharded=True)
    return optimizer


def steps(optimizer: GatedAdamW, count: int) -> torch.Tensor:
    flat = optimizer.param_groups[0]["params"][0]
    for step in range(1, count + 1):
        flat.grad = torch.cat([gradient(5, step), gradient(7, step)])
        optimizer.take_squares()
        optimizer.step()
    return flat.detach()


@pytest.mark.parametrize("count", [1, 5, 6, 12])
def test_each_parameter_of_a_flat_shard_moves_as_the_paper_says(count):
    flat = steps(flat_optimizer(clipped=True), count)
    torch.manual_seed(0)
    start, largest = torch.randn(12).double(), 0.0
    for piece, seen in zip(start.split([5, 7]), flat.split([5, 7]), strict=True):
        w, m, v = piece.tolist(), [0.0] * len(piece), [0.0] * len(piece)
        rms = [slow_step(w, gradient(len(w), t).tolist(), m, v, t) for t in range(1, count + 1)]
        largest = max(largest, *rms)
        assert seen.tolist() == pytest.approx(w, rel=1e-5, abs=1e-6)
    assert (largest > 2) == (count >= 6), "the clip had something to do"


def test_the_clip_leaves_the_moments_as_they_are_without_it():
    clipped, plain = flat_optimizer(clipped=True), flat_optimizer(clipped=False)
    one, other = steps(clipped, 8), steps(plain, 8)
    assert not torch.equal(one, other)
    saved, without = (next(iter(optimizer.state.values())) for optimizer in (clipped, plain))
    assert all(torch.equal(saved[key], without[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_a_step_whose_gradients_are_as_before_is_bit_identical():
    clipped, plain = flat_optimizer(clipped=True), flat_optimizer(clipped=False)
    assert torch.equal(steps(clipped, 1), steps(plain, 1)), "in the first step RMS is 1"


def test_the_size_of_a_clipped_update_is_what_the_weights_moved():
    optimizer = flat_optimizer(clipped=True)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    before = steps(optimizer, 5).clone()
    flat = optimizer.param_groups[0]["params"][0]
    optimizer.take_squares()
    flat.grad = torch.cat([gradient(5, 6), gradient(7, 6)])
    optimizer.step()
    assert optimizer.clip is not None
    assert optimizer.clip.factors[0] < 0.5
    assert optimizer.take_squares() == pytest.approx(float((flat.detach() - before).square().sum()), rel=1e-4)
