"""The live half of the spike benchmark: a tiny LoRA model trained by DeepSpeed on two ranks, with six faults.

Each fault is injected at step 300 of 600, once without any protection (even non-finite updates are applied) and once
with `monitor.action: escalate`. The measure is the final loss over all training samples relative to a clean run's: at
most 1.3 x wherever no protection gives more than 20 x or NaN. The faults are in the engine (`FaultyEngine`) and in the
batches (`faulty_batches`) that the trainer is given. All 14 runs share one pair of ranks; DeepSpeed starts
this file (`deepspeed --num_gpus 2 train/benchmarks/spikes_live.py CONFIG OUTPUT`). Minutes on two cores.

600 steps, because the clean run must have learnt its 96 samples by the end: with 200 steps on 48 samples, the 30 steps
that a rollback costs and the chance effect of one hard sample were as large as the limit of 1.3.
"""

import sys
from pathlib import Path

from configs.ports import free_port

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import contextlib
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from configs.errors import RunError
from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from data_prep.shards import ShardSet
from train.build import build_components
from train.chat.conversation import IGNORE_INDEX
from train.data.collate import ExampleSet
from train.distributed.world import World, start_world, stop_world
from train.heldout import HeldOut
from train.models.batch import Batch
from train.optimization.engine import Engine, Losses, Update
from train.optimization.full_state import FullState
from train.plan import make_plan
from train.resume import open_run
from train.spikes.monitor import SpikeMonitor
from train.spikes.policy import SpikePolicy
from train.toy.random_models import write_random_base
from train.trainer import Trainer

STEPS, FAULT_STEP = 600, 300
FAULTS = ("none", "3 poison batches", "40 batches of random labels", "NaN gradient once", "rate x50 for 3 steps",
          "rate x50 for 10 steps", "LoRA weights x30")  # fmt: skip
MOST_RATIO, RUINED = 1.3, 20.0
WORDS = "this is a . Describe the object USER ASSISTANT :"

CONFIG = """
name: live
seed: {seed}
runs_dir: {root}/runs
data: {{shards: {root}/shards, sources: {{pictures: {{reader: toy_world, options: {{part: alignment, records: 96}}}}}}}}
model:
  {{base: {root}/base, dtype: fp32, mode: lora, lora: {{rank: 16, alpha: 32, dropout: 0.0}}}}
chat: {{system_prompt: none, max_length: 64}}
optim: {{lr_projector: 4.0e-3, lr_language: 4.0e-3, warmup_ratio: 0.03}}
train: {{sources: [pictures], global_batch: 8, micro_batch: 4, epochs: 1000, max_steps: {steps}, workers: 0}}
checkpoint: {{every: 20, keep_last: 10, export: false}}
monitor: {{rollback_margin: 20, rewarm_steps: 10, max_rollbacks: 3}}
"""


@dataclass
class FaultyEngine:
    """An engine that adds one fault to the updates it passes on to `engine`.

    `executed` counts the steps that ran: a rollback does not bring a past fault back.
    """

    engine: Engine
    fault: str
    rank: int
    executed: int = 0

    def __post_init__(self) -> None:
        """Let the gradient of one parameter pass through the fault."""
        self.engine.trainable[0][1].register_hook(self._gradient)

    @property
    def module(self) -> nn.Module:
        """The engine's."""
        return self.engine.module

    @property
    def state(self) -> FullState:
        """The engine's."""
        return self.engine.state

    @property
    def rates(self) -> dict[str, float]:
        """The engine's."""
        return self.engine.rates

    def accumulate(self, batches: Sequence[Batch]) -> Losses:
        """Forward and backward, after damaging the LoRA weights if that is the fault."""
        if self.fault == "LoRA weights x30" and self.executed == FAULT_STEP:
            states = [
                replace(state, master=state.master * (30 if "lora_B" in state.name else 1))
                for state in self.engine.state.read()
            ]
            self.engine.state.write(iter(states), self.executed)
        self.executed += 1
        return self.engine.accumulate(batches)

    def update(self, factor: float, limit: float) -> Update:
        """One update, at 50 times the rate in the steps of that fault."""
        steps = {"rate x50 for 3 steps": 3, "rate x50 for 10 steps": 10}.get(self.fault, 0)
        return self.engine.update(factor * (50 if FAULT_STEP < self.executed <= FAULT_STEP + steps else 1), limit)

    def measure(self, batch: Batch) -> torch.Tensor:
        """The engine's."""
        return self.engine.measure(batch)

    def _gradient(self, value: torch.Tensor) -> torch.Tensor:
        due = self.fault == "NaN gradient once" and self.rank == 1 and self.executed == FAULT_STEP + 1
        return torch.full_like(value, math.nan) if due else value


def faulty_batches(
    open_batches: Callable[[int], Iterator[list[Batch]]], fault: str
) -> Callable[[int], Iterator[list[Batch]]]:
    """The same batches, with random labels in the data steps of the fault."""
    count = {"3 poison batches": 3, "40 batches of random labels": 40}.get(fault, 0)

    def steps(start: int) -> Iterator[list[Batch]]:
        for data_step, batches in enumerate(open_batches(start), start):
            if FAULT_STEP <= data_step < FAULT_STEP + count:
                generator = torch.Generator().manual_seed(data_step)
                for batch in batches:
                    chosen = batch.labels != IGNORE_INDEX
                    batch.labels[chosen] = torch.randint(4, 60, (int(chosen.sum()),), generator=generator)
            yield batches

    return steps


class NoLimit(SpikePolicy):
    """A policy that lets every update through."""

    def max_accepted_norm(self, monitor: SpikeMonitor, losses: Mapping[str, float]) -> float:  # noqa: ARG002 - overrides
        """Infinite."""
        return math.inf


def run_cell(config_file: Path, world: World, fault: str, acts: bool) -> dict[str, Any]:
    """One run; its final loss, and what the policy did."""
    name = f"{fault}-{'escalate' if acts else 'nothing'}".replace(" ", "-")
    overrides = [f"name={name}", f"monitor.action={'escalate' if acts else 'log'}"]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    start = open_run(plan, resume=False)
    components = build_components(plan, world, start)
    assert isinstance(components.engine, Engine)
    if not acts:
        components.engine.adamw.gate.always_open = True
        components.policy = NoLimit(plan.config.monitor)
    components.engine = FaultyEngine(components.engine, fault, world.rank)
    components.open_batches = faulty_batches(components.open_batches, fault)
    components.loggers[1:] = []  # no console
    trainer = Trainer(plan, world, components, start.identity)
    trainer.run()
    everything = HeldOut(ExampleSet(plan.sources, plan.example_builder), len(plan.sources), 0, plan.batches)
    loss = everything.measure(components.engine, world).losses["pictures"]
    for logger in components.loggers:
        logger.close()
    if world.is_main_process:
        shutil.rmtree(plan.run.checkpoints)
    return {
        "loss": loss if math.isfinite(loss) else None,
        "missed": components.policy.state.missed,
        "rollbacks": components.policy.state.rollbacks,
        "stopped": trainer.stopped,
    }


def live_benchmark(seed: int) -> tuple[str, dict[str, Any], bool]:
    """(table, data, all targets reached) of the run of `seed`.

    Raises `RunError` with the output if the ranks fail.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # the output of the build belongs neither to the tables nor to --json
            config = prepare(root, seed)
        start = [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", "2", "--master_port", str(free_port())]
        command = [*start, str(Path(__file__)), str(config), str(root / "output.json")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # with more threads two ranks would compete for the cores
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RunError(f"the live benchmark's ranks ended with {done.returncode}: {done.stderr[-2000:]}")
        table, results, reached = judge(json.loads((root / "output.json").read_text()))
        return f"seed {seed}, {table}", results | {"seed": seed}, reached


def prepare(root: Path, seed: int) -> Path:
    """Shards, base model and config under `root`; returns the config's file."""
    config = root / "live.yaml"
    config.write_text(CONFIG.format(root=root, steps=STEPS, seed=seed), encoding="utf-8")
    build.main(["--config", str(config)])
    names = ShardSet.open(root / "shards" / "pictures").manifest.class_names
    write_random_base(root / "base", "tiny", [*WORDS.split(), *" ".join(names).split()])
    _sharpen(root / "base")
    return config


def _sharpen(base: Path) -> None:
    """Scale the output layer: a random one has logits near 0, which LoRA cannot make large."""
    model = LlavaForConditionalGeneration.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight *= 20
    model.save_pretrained(base)


def judge(results: dict[str, dict[str, dict[str, Any]]]) -> tuple[str, dict[str, Any], bool]:
    """The table, its data, and whether `escalate` rescued every run that diverges without it."""
    clean = results["none"]["nothing"]["loss"]
    lines = [f"clean run: loss {clean:.4f} after {STEPS} steps", ""]
    lines.append(f"{'fault':30}{'nothing done':>14}{'escalate':>10}  {'actions of escalate':44}")
    reached = True
    for fault, arms in results.items():
        ratios = {arm: math.inf if cell["loss"] is None else cell["loss"] / clean for arm, cell in arms.items()}
        ruined = ratios["nothing"] > RUINED
        passed = not ruined or ratios["escalate"] <= MOST_RATIO
        reached = reached and passed
        cell = arms["escalate"]
        did = f"{cell['missed']} steps not applied, {cell['rollbacks']} rollbacks"
        did += f", stopped: {cell['stopped'][:40]}" if cell["stopped"] else ""
        outcome = ("pass" if passed else "FAIL") if ruined else ""
        lines.append(f"{fault:30}{_ratio(ratios['nothing']):>14}{_ratio(ratios['escalate']):>10}  {did:44}{outcome}")
    return "\n".join(lines) + "\n", results, reached


def _ratio(value: float) -> str:
    return "NaN" if math.isinf(value) else f"{value:.2f} x"


def main() -> None:
    """The program of each rank."""
    config_file, output = Path(sys.argv[-2]), Path(sys.argv[-1])
    world = start_world()
    results = {}
    for fault in FAULTS:
        results[fault] = {
            arm: run_cell(config_file, world, fault, arm == "escalate") for arm in ("nothing", "escalate")
        }
    if world.is_main_process:
        output.write_text(json.dumps(results), encoding="utf-8")
    stop_world()


if __name__ == "__main__":
    main()
