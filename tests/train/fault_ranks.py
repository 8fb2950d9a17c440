"""Run by `deepspeed --num_gpus 2`: what a NaN on one rank does in every ZeRO stage and precision. Writes one JSON file.

deepspeed --num_gpus 2 tests/train/fault_ranks.py RUN_CONFIG OUTPUT.json
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from configs.load import load_config
from configs.schema import RunConfig
from train.build import build_trainer
from train.distributed import World, start_world, stop_world
from train.engine import Engine
from train.plan import make_plan
from train.resume import open_run
from train.trainer import Trainer

STEPS, FAULT = 5, 2  # optimizer steps, and which of them (from 0) is faulty on rank 1


def state(engine: Engine) -> list[Any]:
    """Weights, moments and AdamW's count of updates."""
    counts = sorted({float(saved["step"]) for saved in engine._inner.state.values()})
    return [[(s.name, s.master, s.moments) for s in engine.read_state()], counts]


def same(one: list[Any], other: list[Any]) -> bool:
    tensors = zip(one[0], other[0], strict=True)
    return one[1] == other[1] and all(
        torch.equal(a[1], b[1]) and all(torch.equal(a[2][key], b[2][key]) for key in a[2]) for a, b in tensors
    )


def poison_loss(trainer: Trainer, world: World) -> None:
    """One weight of the second sample of rank 1's first micro-batch becomes NaN in the loss of step `FAULT`."""
    module, original = trainer.parts.engine.module, type(trainer.parts.engine.module).forward
    calls = {"steps": 0}

    def forward(self: Any, batch: Any) -> Any:
        loss, by_sample = original(self, batch)
        if world.rank == 1 and trainer.order.step == FAULT and module.training and calls["steps"] == 0:
            calls["steps"] = 1
            factor = torch.ones_like(by_sample)
            factor[1] = math.nan
            return loss * math.nan, by_sample * factor
        return loss, by_sample

    module.forward = forward.__get__(module)


def poison_gradient(trainer: Trainer, world: World) -> None:
    """The loss is fine; rank 1's gradient of one parameter is infinite."""
    parameter = trainer.parts.engine.trainable[0][1]

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        bad = world.rank == 1 and trainer.order.step == FAULT
        return torch.full_like(gradient, math.inf) if bad else gradient

    parameter.register_hook(hook)


def cell(config_file: Path, world: World, name: str, stage: int, dtype: str, poison: Any) -> dict[str, Any]:
    """A run with one faulty step, watched from outside."""
    overrides = [f"name={name}", f"deepspeed.zero_stage={stage}", f"model.dtype={dtype}", "model.mode=lora"]
    overrides += [f"train.max_steps={STEPS}", "train.eval_every=0", "train.heldout=[]", "checkpoint.every=100"]
    overrides += ["train.micro_batch=2", "checkpoint.export=false"]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    trainer = build_trainer(plan, world, open_run(plan, resume=False))
    poison(trainer, world)
    states, step, engine = [], trainer._step, trainer.parts.engine

    def watched(number: int, *rest: Any) -> Any:
        if number in (FAULT, FAULT + 1):
            states.append(state(engine))
        return step(number, *rest)

    trainer._step = watched  # type: ignore[method-assign]
    trainer.run()
    final = state(engine)
    for sink in trainer.parts.sinks:
        sink.close()
    return {
        "unchanged": same(*states),
        "moved_on": not same(states[1], final),
        "finite": all(bool(master.isfinite().all()) for _, master, _ in final[0]),
        "updates": final[1],
        "missed": trainer.parts.actions.memory.missed,
        "run": str(plan.run.root),
    }


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
    if world.leads:
        output.write_text(json.dumps(results))
    stop_world()


if __name__ == "__main__":
    main()
