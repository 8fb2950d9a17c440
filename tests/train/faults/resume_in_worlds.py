"""Runs of one world, forked from one process: each cell trains or resumes; writes what every rank read. One JSON line.

python tests/train/faults/resume_in_worlds.py WORLD FOLDER RUN_CONFIG CELL...       a CELL is NAME:STAGE:FROM

A cell is the run NAME with ZeRO stage STAGE in bf16; if FROM is not empty, it resumes the checkpoint of step `SAVED`
of the run FROM. The ranks stay together for all cells.
"""

import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3])

import deepspeed  # noqa: F401 - imported once, before the ranks are forked
import torch

from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from train.build import build_trainer
from train.distributed.world import free_port, start_world, stop_world
from train.plan import RunPlan, make_plan
from train.resume import open_run

STEPS, SAVED = 8, 4


def plan_of(config_file: Path, name: str, stage: int, world: int) -> RunPlan:
    overrides = [f"name={name}", f"deepspeed.zero_stage={stage}", "model.dtype=bf16", "model.mode=lora"]
    overrides += [f"train.max_steps={STEPS}", f"checkpoint.every={SAVED}", "checkpoint.export=false"]
    overrides += ["model.lora.dropout=0", "train.heldout_every=0", "train.heldout=[]", "train.micro_batch=2"]
    return make_plan(load_config(RunConfig, config_file, overrides)[0], world, "cpu")


def run_cell(plan: RunPlan, world: Any, resumes: bool) -> dict[int, list[str]]:
    """Train; step to the ids that this rank's forward passes had."""
    trainer = build_trainer(plan, world, open_run(plan, resume=resumes))
    module, read = trainer.components.engine.module, defaultdict(list)
    original = type(module).forward

    def forward(batch: Any) -> Any:
        if module.training:
            read[trainer.position.step + 1] += [
                name for name, source in zip(batch.ids, batch.sources, strict=True) if source >= 0
            ]
        return original(module, batch)

    module.forward = forward
    trainer.run()
    for logger in trainer.components.loggers:
        logger.close()
    return read


def be_rank(rank: int, world_size: int, port: int, folder: Path, plans: list[tuple[RunPlan, bool]]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    world = start_world()
    read = {plan.run.root.name: run_cell(plan, world, resumes) for plan, resumes in plans}
    (folder / f"read-{world_size}-{rank}.json").write_text(json.dumps(read))
    stop_world()


def prepare(config_file: Path, cell: str, world: int) -> tuple[RunPlan, bool]:
    """The plan of a cell, its folder made of the run it resumes, which had not gone beyond step `SAVED`."""
    name, stage, source = cell.split(":")
    plan = plan_of(config_file, name, int(stage), world)
    if source:
        other = RunDir(plan.run.root.parent / source)
        plan.run.checkpoints.mkdir(parents=True)
        shutil.copytree(other.checkpoint(SAVED), plan.run.checkpoint(SAVED))
        shutil.copy(other.metrics, plan.run.metrics)
    return plan, bool(source)


def main() -> None:
    world, folder, config_file, cells = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
    torch.set_num_threads(1)
    done, port = {}, free_port()
    plans = [prepare(config_file, cell, world) for cell in cells]
    pids = []
    for rank in range(world):
        if not (pid := os.fork()):
            code = 1
            try:
                be_rank(rank, world, port, folder, plans)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * world, codes
    read = [json.loads((folder / f"read-{world}-{rank}.json").read_text()) for rank in range(world)]
    for plan, _ in plans:
        name = plan.run.root.name
        lines = [json.loads(line) for line in plan.run.metrics.read_text().splitlines()]
        batches = {
            step: sorted(sample for theirs in read for sample in theirs[name].get(step, []))
            for step in map(str, range(1, STEPS + 1))
        }
        done[name] = {
            "losses": [line["loss"] for line in lines],
            "norms": [line["grad_norm"] for line in lines],
            "read": batches,
        }
    print(json.dumps(done))


if __name__ == "__main__":
    main()
