"""A fine-tuning from its config to the export: plan, meet the other ranks, build, train, export."""

import argparse
import os
import sys
from dataclasses import replace

import torch

from configs.command_line import tell_user_error
from configs.errors import UserError
from configs.run import RunConfig
from data_prep.source_match import absent_paths
from train.build import build_trainer
from train.distributed.world import world_size_of_environment
from train.lifecycle import finish, join_world, recorded_start, run_supervised, stopped_before_start
from train.memory_plan import choose, own_device_memory, settle, with_choice
from train.plan import RunPlan, make_plan
from train.resume import check_start, open_run
from train.supervision import signals
from train.tools.preview import preview


def run(config: RunConfig, arguments: argparse.Namespace) -> None:
    """Plan, then train or print the plan. Exits with 2 on a mistake of the user, in one line a node."""
    is_main_process = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    try:
        world_size = arguments.world or world_size_of_environment(os.environ)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        plan = make_plan(config, world_size, device, count=arguments.dry_run)
        if arguments.dry_run:
            if is_main_process:
                gib = arguments.device_memory or own_device_memory()
                print(preview(with_choice(plan, choose(plan, gib))), flush=True)
                check_start(plan, resume=arguments.resume == "auto", accepted=arguments.accept_change)
            return
        train(plan, arguments)
    except UserError as error:
        if is_main_process or os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0":
            tell_user_error(error)  # once a node: what is missing may be missing on this one only
        if torch.distributed.is_initialized():
            sys.stdout.flush()
            os._exit(2)  # gloo's threads abort an interpreter that ends while the other ranks are leaving
        sys.exit(2)


def train(plan: RunPlan, arguments: argparse.Namespace) -> None:
    """Meet the other ranks, build the trainer, run it to the end or to an agreed stop, export."""
    config = plan.config.train
    signals.install(config.stop_signals)
    if (world := join_world(plan)) is None:
        return
    start = open_run(plan, resume=arguments.resume == "auto", accepted=arguments.accept_change)
    plan = settle(plan, start.checkpoint.state.get("memory") if start.checkpoint else None)
    assert plan.memory is not None, "settled"
    start = replace(start, identity=start.identity | {"memory": plan.memory.record})
    if world.is_main_process:
        for note in absent_paths(plan.config.data, config.sources + config.heldout):
            print(note, file=sys.stderr, flush=True)
    if stopped_before_start(plan, world):
        return
    with recorded_start(plan, world, start.step):
        trainer = build_trainer(plan, world, start)
        steps = run_supervised(trainer, world)
        finish(trainer, world, steps)
