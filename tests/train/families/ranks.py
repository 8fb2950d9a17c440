"""Run by `deepspeed --num_gpus 2`: every family in every ZeRO stage and precision, in one pair of ranks.

deepspeed --num_gpus 2 tests/train/families/ranks.py CELLS.json OUTPUT.json

CELLS.json maps the name of a cell to the file of its config, its settings (`key=value`), its precision and ZeRO stage.
"""

import gc
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

from configs.load import load_config
from configs.run import RunConfig
from tests.train.distributed_matrix import lopsided, make_engine, run_step
from train.distributed.world import World, start_world, stop_world
from train.optimization.zero import deepspeed_config
from train.plan import RunPlan, make_plan


@cache
def plan_of(config_file: str, settings: tuple[str, ...], ranks: int) -> RunPlan:
    """The plan in fp32 and ZeRO 0; only DeepSpeed's settings differ in others."""
    return make_plan(load_config(RunConfig, Path(config_file), settings)[0], ranks, "cpu")


def changed(plan: RunPlan, dtype: str, stage: int) -> RunPlan:
    """The same plan in another precision and ZeRO stage."""
    config = replace(
        plan.config,
        model=replace(plan.config.model, dtype=dtype),
        deepspeed=replace(plan.config.deepspeed, zero_stage=stage),
    )
    return replace(plan, config=config, deepspeed=deepspeed_config(config, plan.batches))


def cell(config_file: str, settings: list[str], dtype: str, stage: int, world: World) -> list[tuple[str, str]]:
    """Loss and gradient norm of two steps; in both, one rank has the images and the other the texts."""
    plan = changed(plan_of(config_file, tuple(settings), world.size), dtype, stage)
    plan.deepspeed["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # even tiny weights are split
    engine = make_engine(plan, world)
    return [run_step(engine, plan, world, positions, step) for step, positions in enumerate(lopsided(plan))]


def main() -> None:
    cells, output = json.loads(Path(sys.argv[-2]).read_text()), Path(sys.argv[-1])
    world = start_world()
    gc.freeze()  # DeepSpeed collects garbage for every engine in ZeRO 3: imported modules are none
    results = {name: cell(*arguments, world) for name, arguments in cells.items()}
    if world.is_main_process:
        output.write_text(json.dumps(results))
    stop_world()


if __name__ == "__main__":
    main()
