"""Run by `deepspeed --num_gpus 2`: steps skipped, rolled back or clipped, in every ZeRO stage. Writes one JSON file.

deepspeed --num_gpus 2 tests/train/faults/skip_steps.py RUN_CONFIG OUTPUT.json
"""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3])

import torch

from configs.load import load_config
from configs.run import RunConfig
from train.build import build_trainer
from train.checkpoints.reading import steps_present
from train.distributed.world import World, start_world, stop_world
from train.optimization.engine import Engine
from train.plan import make_plan
from train.resume import open_run
from train.spikes.alerts import Alert
from train.trainer import Trainer

STEPS, FAULT = 5, 2  # optimizer steps, and which of them (from 0) is faulty on rank 1


def state(engine: Engine) -> list[Any]:
    """Weights, moments and AdamW's count of updates."""
    counts = sorted({float(saved["step"]) for saved in engine.adamw.state.values()})
    return [[(s.name, s.master, s.moments) for s in engine.state.read()], counts]


def same(one: list[Any], other: list[Any]) -> bool:
    tensors = zip(one[0], other[0], strict=True)
    return one[1] == other[1] and all(
        torch.equal(a[1], b[1]) and all(torch.equal(a[2][key], b[2][key]) for key in a[2]) for a, b in tensors
    )


def poison_loss(trainer: Trainer, world: World) -> None:
    """One weight of the second sample of rank 1's first micro-batch becomes NaN in the loss of step `FAULT`."""
    module, original = trainer.components.engine.module, type(trainer.components.engine.module).forward
    calls = {"steps": 0}

    def forward(self: Any, batch: Any) -> Any:
        loss, by_sample = original(self, batch)
        if world.rank == 1 and trainer.position.step == FAULT and module.training and calls["steps"] == 0:
            calls["steps"] = 1
            factor = torch.ones_like(by_sample)
            factor[1] = math.nan
            return loss * math.nan, by_sample * factor
        return loss, by_sample

    module.forward = forward.__get__(module)


def poison_gradient(trainer: Trainer, world: World) -> None:
    """The loss is fine; rank 1's gradient of one parameter is infinite."""
    parameter = trainer.components.engine.trainable[0][1]

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        bad = world.rank == 1 and trainer.position.step == FAULT
        return torch.full_like(gradient, math.inf) if bad else gradient

    parameter.register_hook(hook)


def cell(config_file: Path, world: World, name: str, stage: int, dtype: str, poison: Any) -> dict[str, Any]:
    """A run with one faulty step, watched from outside."""
    overrides = [f"train.max_steps={STEPS}", "checkpoint.every=100"]
    trainer = make_trainer(config_file, world, name, stage, dtype, overrides)
    poison(trainer, world)
    states, step, engine = [], trainer._step, trainer.components.engine

    def watched(number: int, *rest: Any) -> Any:
        if number in (FAULT, FAULT + 1):
            states.append(state(engine))
        return step(number, *rest)

    trainer._step = watched  # type: ignore[method-assign]
    trainer.run()
    final = state(engine)
    for logger in trainer.components.loggers:
        logger.close()
    return {
        "unchanged": same(*states),
        "moved_on": not same(states[1], final),
        "finite": all(bool(master.isfinite().all()) for _, master, _ in final[0]),
        "updates": final[1],
        "missed": trainer.components.policy.state.missed,
        "run": str(trainer.plan.run.root),
    }


def make_trainer(
    config_file: Path, world: World, name: str, stage: int, dtype: str, more: list[str], resume: bool = False
) -> Trainer:
    overrides = [f"name={name}", f"deepspeed.zero_stage={stage}", f"model.dtype={dtype}", "model.mode=lora"]
    overrides += ["train.heldout_every=0", "train.heldout=[]", "train.micro_batch=2", "checkpoint.export=false", *more]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    return build_trainer(plan, world, open_run(plan, resume=resume))


def rollback_cell(
    config_file: Path, world: World, name: str, stage: int, dtype: str, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A run of 12 steps whose monitor cries at steps 7 and 9; one rollback is allowed."""
    overrides = ["train.max_steps=12", "checkpoint.every=2", "checkpoint.keep_last=10", "monitor.action=rollback_lr"]
    overrides += ["monitor.max_rollbacks=1", "monitor.rollback_margin=2", "monitor.rewarm_steps=0", *more]
    trainer = make_trainer(config_file, world, name, stage, dtype, overrides)
    cries, monitor, engine, step = [7, 9], trainer.components.monitor, trainer.components.engine, trainer._step
    observe, states, read = monitor.observe, [], []

    def crying(number: int, *rest: Any) -> Any:
        alerts = observe(number, *rest)
        if number in cries:
            cries.remove(number)
            alerts = [Alert(number, "loss/pictures", "not_recovering", 1.0, since=number - 1)]
        return alerts

    def watched(number: int, data: Any, *rest: Any) -> Any:
        read.append((number, trainer.position.data_step(number)))
        if number == 4:
            states.append(state(engine))
        return step(number, data, *rest)

    monitor.observe, trainer._step = crying, watched  # type: ignore[method-assign]
    done = trainer.run()
    return {
        "restored": world.all_sum([float(len(states) == 2 and same(*states))])[0] == world.size,
        "reset": [is_reset(*states), world.all_sum([float(is_reset(*states))])[0] == world.size],
        "read": read,
        "done": done,
        "stopped": trainer.stopped,
        "skipped": trainer.position.skipped,
        "checkpoints": steps_present(trainer.plan.run),
        "lr_scale": trainer.components.policy.lr_scale(9),
        "run": str(trainer.plan.run.root),
    }


def clip_cell(config_file: Path, world: World, name: str, stage: int, dtype: str) -> dict[str, Any]:
    """A run whose update is clipped, judged from its full state before and after each step."""
    overrides = ["train.max_steps=4", "checkpoint.every=100", "optim.update_clip=stable", "optim.weight_decay=0.1"]
    trainer = make_trainer(config_file, world, name, stage, dtype, overrides)
    engine, step, errors, factors = trainer.components.engine, trainer._step, [], []
    engine.trainable[0][1].register_hook(lambda gradient: gradient * (1000 if trainer.position.step == 3 else 1))

    def watched(number: int, *rest: Any) -> Any:
        before = list(engine.state.read())
        done = step(number, *rest)
        rate = engine.optimizer.param_groups[0]["lr"]
        for old, new in zip(before, engine.state.read(), strict=True):
            factor, error = clip_error(old, new, rate, number + 1)
            factors.append(factor)
            errors.append(error)
        return done

    trainer._step = watched  # type: ignore[method-assign]
    trainer.run()
    return {"error": max(errors), "least": min(factors)}


def clip_error(old: Any, new: Any, rate: float, t: int) -> tuple[float, float]:
    """(1 / max(1, RMS), largest distance from where StableAdamW puts the weights, in learning rates); in double."""
    m, v = new.moments["exp_avg"].double(), new.moments["exp_avg_sq"].double() / (1 - 0.999**t)
    gradient = (m - 0.9 * old.moments["exp_avg"].double()) / (1 - 0.9)
    rms = math.sqrt(
        sum(g * g / max(s, 1e-16) for g, s in zip(gradient.flatten().tolist(), v.flatten().tolist(), strict=True))
        / v.numel()
    )
    factor = 1 / max(1.0, rms)
    decay = 0.1 if old.master.ndim > 1 else 0.0  # biases and norms do not decay
    step = decay * old.master.double() + m / (1 - 0.9**t) / (v.sqrt() + 1e-8)
    error = (new.master.double() - (old.master.double() - rate * factor * step)).abs().max()
    return factor, float(error) / max(rate, 1e-12) if rate else 0.0


def resumed_cell(config_file: Path, world: World, name: str, stage: int, dtype: str) -> dict[str, Any]:
    """8 steps with a NaN in the third; then again from the checkpoint of step 4, all later files gone."""
    overrides = ["train.max_steps=8", "checkpoint.every=4", "checkpoint.keep_last=10"]
    trainer = make_trainer(config_file, world, name, stage, dtype, overrides)
    poison_gradient(trainer, world)
    curves = []
    for part in ("whole", "resumed"):
        if part == "resumed":
            if world.is_main_process:
                shutil.rmtree(trainer.plan.run.checkpoint(8))
            world.barrier()
            trainer = make_trainer(config_file, world, name, stage, dtype, overrides, resume=True)
        started = trainer.position.step
        trainer.run()
        for logger in trainer.components.loggers:
            logger.close()
        lines = trainer.plan.run.metrics.read_text().splitlines() if world.is_main_process else []
        curves.append([(r["step"], r["loss"].hex(), r["grad_norm"].hex()) for r in map(json.loads, lines)])
    updates = sorted({float(saved["step"]) for saved in trainer.components.engine.adamw.state.values()})
    return {"curves": curves, "started": started, "updates": updates, "missed": trainer.components.policy.state.missed}


def is_reset(before: list[Any], after: list[Any]) -> bool:
    """The weights of before, moments that were not 0 and are, a count of updates that begins anew."""
    weights = all(torch.equal(a[1], b[1]) for a, b in zip(before[0], after[0], strict=True))
    moments = [
        any(bool(moment.any()) for _, _, pair in found[0] for moment in pair.values()) for found in (before, after)
    ]
    return weights and moments == [True, False] and after[1] == [0.0]


def main() -> None:
    config_file, output = Path(sys.argv[-2]), Path(sys.argv[-1])
    world = start_world()
    results = {}
    for dtype in ("fp32", "bf16"):
        for stage in (0, 1, 2, 3):
            for kind, poison in (("loss", poison_loss), ("gradient", poison_gradient)):
                name = f"{kind}-{dtype}-zero-{stage}"
                results[name] = cell(config_file, world, name, stage, dtype, poison)
                everywhere = world.all_sum([float(results[name]["unchanged"]), float(results[name]["finite"])])
                results[name]["on_all_ranks"] = everywhere == [float(world.size)] * 2
    for dtype, stage in (("fp32", 0), ("bf16", 0), ("bf16", 2), ("fp32", 3)):
        name = f"rollback-{dtype}-zero-{stage}"
        results[name] = rollback_cell(config_file, world, name, stage, dtype)
    for dtype, stage in (("fp32", 0), ("bf16", 2), ("fp32", 3)):
        name, more = f"reset-{dtype}-zero-{stage}", ("monitor.reset_moments=true", "monitor.rewarm_steps=4")
        results[name] = rollback_cell(config_file, world, name, stage, dtype, more)
    for dtype, stage in (("fp32", 0), ("bf16", 1), ("fp32", 3)):
        name = f"resumed-{dtype}-zero-{stage}"
        results[name] = resumed_cell(config_file, world, name, stage, dtype)
    for dtype, stage in (("fp32", 0), ("bf16", 0), ("fp32", 1), ("bf16", 2), ("fp32", 3)):
        results[f"clip-{dtype}-zero-{stage}"] = clip_cell(config_file, world, f"clip-{dtype}-{stage}", stage, dtype)
    if world.is_main_process:
        output.write_text(json.dumps(results))
    stop_world()


if __name__ == "__main__":
    main()
