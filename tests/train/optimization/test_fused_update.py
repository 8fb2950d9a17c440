"""An update of all parameters at once does what one after the other does, in a fixed number of launches."""

import argparse
import math
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs.training import OptimConfig
from train.benchmarks.optimizer_update import OperationCount, measure
from train.distributed.world import World, start_world, stop_world
from train.optimization import tensor_lists
from train.optimization.engine import Engine
from train.optimization.fused_update import total_norm
from train.optimization.gated_adamw import GatedAdamW
from train.optimization.tensor_lists import Part, UpdateCounts, stepped_pieces
from train.optimization.update_clip import UpdateClip

ALONE = World(0, 1, 0, torch.device("cpu"))
BETAS, EPS = (0.9, 0.99), 1e-6
SHAPES = ((4, 3), (5,), (1, 7), (2, 2))
GROUPS = ((0, 2, 0.1, 0.0), (2, 4, 0.02, 0.3))  # first and last parameter, learning rate, weight decay


class SlowAdamW:
    """AdamW with a gate, a gradient clip and StableAdamW's clip, one parameter after the other in double precision."""

    def __init__(self, weights: list[torch.Tensor], clipped: bool):
        self.weights = [weight.detach().double() for weight in weights]
        self.m = [torch.zeros_like(weight) for weight in self.weights]
        self.v = [torch.zeros_like(weight) for weight in self.weights]
        self.t, self.clipped, self.squares = [0] * len(weights), clipped, 0.0

    def step(self, gradients: list[torch.Tensor | None], limit: float) -> None:
        self.squares = 0.0
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))
        if not math.isfinite(norm) or norm > limit:
            return
        for first, last, rate, decay in GROUPS:
            for i in range(first, last):
                if (gradient := gradients[i]) is not None:
                    self._step(i, gradient.double(), rate, decay)

    def _step(self, i: int, g: torch.Tensor, rate: float, decay: float) -> None:
        self.t[i] += 1
        self.m[i] = BETAS[0] * self.m[i] + (1 - BETAS[0]) * g
        self.v[i] = BETAS[1] * self.v[i] + (1 - BETAS[1]) * g * g
        v = self.v[i] / (1 - BETAS[1] ** self.t[i])
        rms = math.sqrt(float((g * g / v.clamp(min=EPS**2)).mean()))
        factor = 1 / max(1.0, rms) if self.clipped else 1.0
        update = rate * factor * (self.m[i] / (1 - BETAS[0] ** self.t[i])) / (v.sqrt() + EPS)
        self.squares += float(update.square().sum())
        self.weights[i] = self.weights[i] - rate * factor * decay * self.weights[i] - update


def gradients_of(step: int, kind: str) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(step)
    found: list[torch.Tensor | None] = [torch.randn(shape, generator=generator) for shape in SHAPES]
    assert found[0] is not None
    if kind == "spike" and step == 5:
        found[0] *= 100
    if kind == "some missing" and step % 2:
        found[1] = found[3] = None
    if kind == "not finite" and step in (3, 5):
        found[0][0, 0] = math.nan if step == 3 else math.inf
    return found


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("kind", ["plain", "spike", "some missing", "not finite", "gate closed"])
def test_it_equals_the_update_of_one_parameter_after_the_other(kind, clipped):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    reference = SlowAdamW(weights, clipped)
    groups = [{"params": weights[a:b], "lr": rate, "weight_decay": decay} for a, b, rate, decay in GROUPS]
    ours = GatedAdamW(groups, betas=BETAS, eps=EPS, measure=True)
    for weight in weights:
        zeros = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
        ours.state[weight] = {"step": torch.tensor(0.0), **zeros}
    if clipped:
        parts = {weight: [Part(number, 0, weight.numel())] for number, weight in enumerate(weights)}
        ours.clip = UpdateClip(parts, [weight.numel() for weight in weights], ALONE, sharded=False)
    for step in range(1, 9):
        limit = 0.1 if kind == "gate closed" and step == 4 else math.inf
        gradients = gradients_of(step, kind)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        norm = float(total_norm(gradient for gradient in gradients if gradient is not None))
        ours.gate.norm = lambda norm=norm: norm
        ours.gate.prepare(limit)
        ours.step()
        reference.step(gradients, limit)
        for weight, expected in zip(weights, reference.weights, strict=True):
            torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-6, atol=1e-6)
        assert ours.take_squares() == pytest.approx(reference.squares, rel=1e-4)
    assert [int(ours.state[weight]["step"]) for weight in weights] == reference.t
    if clipped and kind == "spike":
        assert ours.clip is not None
        assert min(ours.clip.factors) <= 1


def counted(parameters: int, clipped: bool) -> tuple[int, int]:
    """Operations and waits of a step; the first step reads what is known afterwards."""
    weights = [torch.nn.Parameter(torch.ones(8)) for _ in range(parameters)]
    adamw = GatedAdamW(weights, lr=0.1, measure=True)
    for weight in weights:
        zeros = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
        adamw.state[weight] = {"step": torch.tensor(0.0), **zeros}
    if clipped:
        parts = {weight: [Part(number, 0, 8)] for number, weight in enumerate(weights)}
        adamw.clip = UpdateClip(parts, [8] * parameters, ALONE, sharded=False)
    for step in range(2):
        for weight in weights:
            weight.grad = torch.full((8,), float(1 + 9 * step))  # the second is clipped
        with OperationCount() as count:
            norm = total_norm(weight.grad for weight in weights)
            adamw.gate.norm = lambda norm=norm: norm
            adamw.gate.prepare(math.inf)
            adamw.step()
            adamw.take_squares()
    return count.operations, count.waits


@pytest.mark.parametrize("clipped", [False, True])
def test_operations_and_waits_do_not_grow_with_the_parameters(clipped):
    few, many = counted(3, clipped), counted(60, clipped)
    assert few == many
    assert few[1] == 2, "the norm and the size of the update"


def test_a_flat_shard_is_cut_at_its_parts_and_to_a_bounded_size(monkeypatch):
    monkeypatch.setattr(tensor_lists, "BATCH_ELEMENTS", 4)
    flat = torch.nn.Parameter(torch.arange(11.0))
    flat.grad = torch.zeros(11)
    optimizer = GatedAdamW([flat], lr=0.1)
    optimizer.state[flat] = {key: torch.zeros(11) for key in ("exp_avg", "exp_avg_sq")} | {"step": torch.tensor(3.0)}
    found = list(stepped_pieces(optimizer, UpdateCounts(), {flat: [Part(7, 5, 10), Part(6, 0, 3)]}))
    assert [piece.tolist() for pieces in found for piece in pieces.weights] == [
        [0, 1, 2], [3], [4], [5, 6, 7], [8, 9], [10]
    ]  # fmt: skip
    assert [number for pieces in found for number in pieces.parameters] == [6, -1, -1, 7, 7, -1]
    assert max(pieces.elements for pieces in found) <= 4
    assert all(pieces.counts == [3] * len(pieces.weights) for pieces in found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    before = dict(os.environ)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        os.environ.pop(name, None)
    yield start_world()
    stop_world()
    os.environ.clear()
    os.environ.update(before)


class Toy(torch.nn.Module):
    """As many parameters as wanted, and a loss whose gradient is a batch's numbers."""

    def __init__(self, parameters: int, dtype: torch.dtype):
        super().__init__()
        torch.manual_seed(1)
        layers = [torch.nn.Linear(4, 3, bias=False, dtype=dtype) for _ in range(parameters)]
        self.model = torch.nn.ModuleDict({"language": torch.nn.ModuleList(layers)})
        self.family = SimpleNamespace(part_of=lambda name: name.split(".")[0])

    def forward(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = batch.numbers
        outputs = [layer(inputs.to(layer.weight.dtype)).float().square().sum() for layer in self.model["language"]]
        loss = torch.stack(outputs).sum()
        return loss, loss.detach().view(1)


def toy_batch(seed: int) -> Any:
    batch = SimpleNamespace(numbers=torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)))
    batch.to = lambda device: batch
    return batch


def toy_engine(world: World, stage: int, dtype: str, parameters: int, clip: str = "none") -> Engine:
    settings = {
        "train_batch_size": 1, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0, "zero_allow_untested_optimizer": True, "steps_per_print": 1_000_000,
        "bf16": {"enabled": dtype == "bf16"},
        "zero_optimization": {"stage": stage} | ({"reduce_bucket_size": 1000} if stage else {}),
    }  # fmt: skip
    optim = OptimConfig(lr_language=0.01, weight_decay=0.1, update_clip=clip)
    engine = Engine(Toy(parameters, torch.bfloat16 if dtype == "bf16" else torch.float32), settings, optim, world)  # type: ignore[arg-type]
    engine.adamw.measure = True
    return engine


def masters(engine: Engine) -> list[torch.Tensor]:
    return [state.master for state in engine.state.read()]


CELLS = [(stage, dtype) for stage in (0, 1, 2, 3) for dtype in ("fp32", "bf16")]


@pytest.mark.slow
def test_waits_of_an_update_do_not_grow_with_the_parameters_and_all_stages_agree(world):
    reached: dict[str, list[torch.Tensor]] = {}
    for stage, dtype in CELLS:
        waits, operations = [], []
        for parameters in (2, 24):
            engine = toy_engine(world, stage, dtype, parameters, clip="stable")
            for step in range(3):
                engine.accumulate([toy_batch(step)])
                with OperationCount() as count:
                    update = engine.update(1.0)
                assert update.applied
            waits.append(count.waits)
            operations.append(count.operations)
        assert waits[0] == waits[1] <= 6, (stage, dtype, waits)
        if stage == 0:
            assert operations[0] == operations[1], (dtype, operations)
        found = masters(engine)
        reached.setdefault(dtype, found)
        for mine, theirs in zip(found, reached[dtype], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, msg=f"ZeRO {stage} {dtype}")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "dtype"), CELLS)
def test_a_gradient_that_is_not_finite_changes_nothing_in_any_stage(world, stage, dtype):
    engine = toy_engine(world, stage, dtype, 3)
    engine.accumulate([toy_batch(0)])
    assert engine.update(1.0).applied
    before = masters(engine)
    broken = toy_batch(1)
    broken.numbers[0, 0] = math.inf
    engine.accumulate([broken])
    update = engine.update(1.0)
    assert not update.applied
    assert not math.isfinite(update.grad_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, masters(engine), strict=True))
    engine.accumulate([toy_batch(2)])
    assert engine.update(1.0).applied
    assert {int(saved["step"]) for saved in engine.adamw.state.values()} == {2}


@pytest.mark.slow
def test_the_benchmark_counts_fewer_operations_for_ours(world):
    found = measure(argparse.Namespace(parameters=12, elements=64, repeats=1, device="cpu"))
    assert found["deepspeed_over_ours"]["operations"] > 10
    assert found["ours"]["waits"] == 2 < found["deepspeed"]["waits"]
