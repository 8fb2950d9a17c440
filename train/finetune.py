"""Fine-tune a vision-language model: `deepspeed train/finetune.py --config configs/imagenet_llava_mix.yaml`.

Started by `deepspeed`, `torchrun`, `srun` or plain `python`. On a CPU `deepspeed` starts one rank unless it is given
`--num_gpus N`. Exit codes: 0 done, or stopped by a signal with everything saved; 2 user error; 3 stopped by
the loss-spike monitor (`monitor.action`), nothing exported; 4 a rank hung or died (the other ranks report which and
exit with this code; `deepspeed` itself with 247 if it sees first that a rank was killed by signal 9).
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # `deepspeed` puts this folder here, not the project's

from train.supervision import signals

signals.install()  # before torch is imported: its import takes seconds in which a signal would kill the rank

import os

from train.supervision import console, launcher_watch

launcher_watch.start(signals.request)
console.ignore_broken_pipe()

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # data workers are processes already

import argparse
from dataclasses import replace

import torch

from configs.command_line import add_base_model, add_dry_run, config_of, config_parser, tell_user_error
from configs.errors import ConfigError, UserError
from configs.run import RunConfig
from data_prep.source_match import absent_paths
from train.build import build_trainer
from train.distributed.world import world_size_of_environment
from train.lifecycle import finish, join_world, recorded_start, run_supervised, stopped_before_start
from train.memory_plan import choose, own_device_memory, settle, with_choice
from train.plan import RunPlan, make_plan
from train.resume import open_run
from train.tools.preview import preview


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    add_dry_run(parser, "the plan of the run")
    parser.add_argument("--world", type=int, help="with --dry-run: number of ranks to plan for")
    parser.add_argument(
        "--device-memory", type=float, metavar="GIB", help="with --dry-run: plan for a GPU of that size, such as 80"
    )
    parser.add_argument("--resume", choices=("auto",), help="auto: continue from the newest whole checkpoint, if any")
    parser.add_argument(
        "--accept-change", action="append", default=[], metavar="KEY", help="resume although this setting changed"
    )
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # given by deepspeed, read from LOCAL_RANK
    return parser.parse_args()


def main() -> None:
    """Parse, plan, build, run, export."""
    arguments = parse_arguments()
    is_main_process = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    try:
        config = config_of(arguments, RunConfig)
        if arguments.world is not None and (arguments.world < 1 or not arguments.dry_run):
            raise ConfigError(f"--world {arguments.world} plans a dry run for that many ranks: give it with --dry-run")
        if arguments.device_memory is not None and not (arguments.device_memory > 0 and arguments.dry_run):
            raise ConfigError(
                f"--device-memory {arguments.device_memory:g} plans a dry run for a GPU of that size: give it with "
                "--dry-run"
            )
        world_size = arguments.world or world_size_of_environment(os.environ)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        plan = make_plan(config, world_size, device, count=arguments.dry_run)
        if arguments.dry_run:
            if is_main_process:
                gib = arguments.device_memory or own_device_memory()
                print(preview(with_choice(plan, choose(plan, gib))))
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


if __name__ == "__main__":
    main()
