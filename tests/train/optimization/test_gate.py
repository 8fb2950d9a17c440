"""AdamW behind a gate, and a run that is only watched."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from configs.run_dir import RunDir
from train.checkpoints.reading import newest_checkpoint
from train.optimization.gated_adamw import GatedAdamW

ROOT = Path(__file__).resolve().parents[3]


def optimizers(**settings: object) -> tuple[list[torch.nn.Parameter], GatedAdamW, torch.optim.AdamW]:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(4)]
    ours = GatedAdamW([{"params": parameters[:2], "lr": 0.1}], weight_decay=0.01, measure=True, **settings)
    plain = torch.optim.AdamW([{"params": parameters[2:], "lr": 0.1}], weight_decay=0.01, fused=True)
    for mine, theirs in zip(parameters[:2], parameters[2:], strict=True):
        theirs.data.copy_(mine.data)
    return parameters, ours, plain


def give_gradients(parameters: list[torch.nn.Parameter], seed: int) -> None:
    torch.manual_seed(seed)
    for mine, theirs in zip(parameters[:2], parameters[2:], strict=True):
        mine.grad = torch.randn(4, 3)
        theirs.grad = mine.grad.clone()


def test_with_an_open_gate_it_is_torchs_adamw_bit_for_bit():
    parameters, ours, plain = optimizers()
    ours.gate.norm = lambda: 1.0
    for step in range(5):
        give_gradients(parameters, step)
        ours.gate.prepare(math.inf)
        ours.step()
        plain.step()
        assert ours.gate.applied
    assert all(torch.equal(a, b) for a, b in zip(parameters[:2], parameters[2:], strict=True))


@pytest.mark.parametrize(
    ("norm", "limit"), [(math.nan, math.inf), (math.inf, math.inf), (-1.0, math.inf), (3, 2), (1, -1)]
)
def test_a_closed_gate_leaves_weights_moments_and_count(norm, limit):
    parameters, ours, _ = optimizers()
    ours.gate.norm = lambda: 1.0
    give_gradients(parameters, 1)
    ours.gate.prepare(math.inf)
    ours.step()
    before = json.dumps([ours.state_dict()["state"], parameters[0]], default=lambda tensor: tensor.tolist())
    ours.gate.norm = lambda: norm
    ours.gate.prepare(limit)
    give_gradients(parameters, 2)
    ours.step()
    assert not ours.gate.applied
    assert before == json.dumps([ours.state_dict()["state"], parameters[0]], default=lambda tensor: tensor.tolist())


def test_the_size_of_the_update_is_what_the_weights_moved():
    parameters, ours, _ = optimizers()
    ours.param_groups[0]["weight_decay"] = 0.0
    for step in range(3):
        give_gradients(parameters, step)
        before = [p.detach().clone() for p in parameters[:2]]
        ours.step()
        moved = sum(float((p.detach() - old).square().sum()) for p, old in zip(parameters, before, strict=False))
        assert ours.take_squares() == pytest.approx(moved, rel=1e-4)


def train(training_setup, name: str, **settings: object) -> RunDir:
    arguments = training_setup.arguments(name, checkpoint__export="false", train__heldout="[]", **settings)
    command = [sys.executable, "train/finetune.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return RunDir(training_setup.root / "runs" / name)


def metrics(folder: RunDir) -> list[tuple[int, str, str]]:
    lines = map(json.loads, folder.metrics.read_text().splitlines())
    return [(line["step"], line["loss"].hex(), line["grad_norm"].hex()) for line in lines]


@pytest.mark.slow
def test_a_watched_run_is_bit_identical_to_one_without_a_monitor(training_setup):
    watched = train(training_setup, "watched", model__mode="lora")
    alone = train(training_setup, "alone", model__mode="lora", monitor__enabled="false")
    assert metrics(watched) == metrics(alone)
    one, other = (newest_checkpoint(run)[0].weights() for run in (watched, alone))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "update_rms" in watched.metrics.read_text()
