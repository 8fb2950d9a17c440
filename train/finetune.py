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

from configs.command_line import add_base_model, add_dry_run, config_of, config_parser, tell_user_error
from configs.errors import ConfigError, UserError
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.run_start import check_accepted, refuse_start


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
    """Parse. The rest is in `train.finetuning`, imported once the command line and the config are valid."""
    arguments = parse_arguments()
    try:
        config = config_of(arguments, RunConfig)
        _check(arguments, config)
    except UserError as error:
        if os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0":  # once a node
            tell_user_error(error)
        sys.exit(2)
    from train.finetuning import run  # takes the seconds of torch, which --help and a mistake do not need

    run(config, arguments)


def _check(arguments: argparse.Namespace, config: RunConfig) -> None:
    """Raise `UserError` for options that do not belong together, or a run that cannot be started."""
    check_accepted(arguments.accept_change, config)
    if arguments.world is not None and (arguments.world < 1 or not arguments.dry_run):
        raise ConfigError(f"--world {arguments.world} plans a dry run for that many ranks: give it with --dry-run")
    if arguments.device_memory is not None and not (arguments.device_memory > 0 and arguments.dry_run):
        raise ConfigError(
            f"--device-memory {arguments.device_memory:g} plans a dry run for a GPU of that size: give it with "
            "--dry-run"
        )
    is_main_process = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    if is_main_process and not arguments.dry_run:  # before the imports; `train.resume` decides again with all ranks
        refuse_start(RunDir(Path(config.runs_dir) / config.name), resume=arguments.resume == "auto")


if __name__ == "__main__":
    main()
