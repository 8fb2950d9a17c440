r"""Submits the paper's experiments on one model to SLURM: an array that evaluates, then a job that finishes.

    python -m launch.reproduce --config configs/imagenet_llava_mix.yaml --gpus-per-task 1 --dry-run -- \
        --model llava-hf/llava-1.5-7b-hf --protocol official

The arguments after `--` are those of `python -m eval.reproduce`, which first runs here with --dry-run: it prints the
rows and refuses invalid arguments. Partition, account, setup lines and the number of array tasks (`slurm.eval_tasks`)
are read from the config, and nothing else. A task that is killed or requeued continues where it stopped, and so do all
tasks when they are submitted again: no item is evaluated twice.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, config_of, config_parser, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run import RunConfig
from configs.slurm import Gpus, SlurmConfig, evaluation_gpus
from launch import commands
from launch.cluster import add_verbose
from launch.job import Job
from launch.preflight import exit_with_problems
from launch.slurm_problems import slurm_problems
from launch.slurm_queue import Queue

OURS = ("--worker", "--workers", "--report-only")  # options that this program gives to the jobs


def plan(arguments: Sequence[str], tasks: int, gpus: Gpus, python: str) -> list[Job]:
    """The array that evaluates, and the job that trains the probes and writes the scoreboard; one task does both.

    `arguments` are those of eval.reproduce.
    """
    name = f"reproduce.{label(arguments)}"
    evaluate = Job(
        run=name,
        stage="evaluate",
        script="evaluate",
        asks="eval",
        command=tuple(commands.reproduce(python, arguments, tasks)),
        gpus=gpus,
        tasks=tasks,
    )
    if tasks == 1:
        return [evaluate]
    finish = Job(
        run=name,
        stage="finish",
        script="evaluate",
        asks="eval",
        command=tuple(commands.reproduce(python, [*arguments, "--report-only"])),
        gpus=gpus,
        after=("evaluate",),
    )
    return [evaluate, finish]


def task_gpus(slurm: SlurmConfig, asked: int | None) -> Gpus:
    """GPUs of a task: `asked`, the command line's number, or those of an evaluation; raises `ConfigError`."""
    if asked is not None and asked < 0:
        raise ConfigError(f"--gpus-per-task is {asked}; it must be at least 0")
    own = evaluation_gpus(slurm, 1 if asked is None else asked)
    if asked is not None and asked != own.count:
        raise ConfigError(f"--gpus-per-task is {asked} and slurm.eval.gpus is {slurm.eval.gpus}; leave one out")
    return own


def label(arguments: Sequence[str]) -> str:
    """A name for model and protocol, valid for a folder and a job."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model")
    parser.add_argument("--protocol", default="paper")
    known, _ = parser.parse_known_args(arguments)
    if known.model is None:
        raise ConfigError("no --model among the arguments after `--`; give eval.reproduce's: -- --model DIR")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{known.model}.{Path(known.protocol).stem}").strip("-.")


def main(argv: Sequence[str] | None = None) -> None:
    """Check by a dry run of eval.reproduce, then print (--dry-run) or submit. Exits with code 2 on a mistake."""
    parser = config_parser(__doc__, RunConfig)
    parser.add_argument("--gpus-per-task", type=int, metavar="G", help="0: none; default: slurm.eval.gpus, or 1")
    add_dry_run(parser, "rows, jobs and commands")
    add_verbose(parser)
    parser.add_argument("reproduce", nargs="*", metavar="ARGUMENT", help="arguments of eval.reproduce, after `--`")
    arguments = parser.parse_args(argv)
    try:
        config = config_of(arguments, RunConfig)
        if any(word.startswith("--dry-run") for word in arguments.reproduce):
            raise ConfigError("--dry-run after `--` is an option of this program; put it before `--`")
        if taken := [word for word in arguments.reproduce if word.partition("=")[0] in OURS]:
            raise ConfigError(f"{taken[0]} after `--` is set by this program for each job; leave it out")
        exit_with_problems(list(slurm_problems(config.slurm)))
        gpus = task_gpus(config.slurm, arguments.gpus_per_task)
        python = config.slurm.python or sys.executable
        jobs = plan(arguments.reproduce, config.slurm.eval_tasks, gpus, python)
        queue = Queue(Path(config.runs_dir) / "reproduce" / label(arguments.reproduce), config.slurm)
        checked = subprocess.run([*commands.reproduce(sys.executable, arguments.reproduce), "--dry-run"], check=False)
        if checked.returncode:
            raise SystemExit(checked.returncode)
        if arguments.dry_run:
            print(queue.dry_run_text(jobs, arguments.verbose), end="")
            return
        queue.write_scripts(jobs)
        queue.submit(jobs)
        print(f"their output: {queue.folder.root}/*.out")
    except UserError as error:
        exit_on_user_error(error)


if __name__ == "__main__":
    main()
