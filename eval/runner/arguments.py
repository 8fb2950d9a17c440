"""Command-line arguments that several programs of `eval` have, and the configuration that they name."""

import argparse
from collections.abc import Sequence

from configs.command_line import add_dry_run, add_json, config_of
from configs.evaluation import EvalConfig
from eval.tasks.presets import preset_names, preset_overrides


def add_states_arguments(parser: argparse.ArgumentParser, train_help: str, report_help: str) -> None:
    """The options of a program on stored hidden states (`eval.probes.preparation`)."""
    parser.add_argument("--train", metavar="SOURCE", help=f"{train_help} (default: probe_source)")
    parser.add_argument("--encoder", action="store_true", help="probe.part=encoder; a CLIP has nothing else")
    add_worker_arguments(parser, "only extracts", report_help)
    add_protocol_argument(parser)
    add_dry_run(parser, "the disk space and memory that are needed")
    add_json(parser)


def eval_config_of(arguments: argparse.Namespace, flags: Sequence[str] = ()) -> EvalConfig:
    """The evaluation of `--config`, `--protocol`, `flags` (options as settings) and `--set`, the last one first.

    `--print-config` prints it and ends the program. Raises `ConfigError` as `load_config`.
    """
    arguments.overrides = [*preset_overrides(arguments.protocol), *flags, *arguments.overrides]
    return config_of(arguments, EvalConfig)


def add_worker_arguments(parser: argparse.ArgumentParser, worker_help: str, report_help: str) -> None:
    """`--worker I`, `--workers N`, `--processes P`, `--report-only`."""
    parser.add_argument("--worker", type=int, metavar="I", help=f"index of this job, from 0 to N - 1; {worker_help}")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="number of jobs that share the items")
    add_processes(parser)
    parser.add_argument("--report-only", action="store_true", help=report_help)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """`--processes P`."""
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="processes on this machine (default 1)")


def add_protocol_argument(parser: argparse.ArgumentParser) -> None:
    """`--protocol NAME`."""
    names = f"{', '.join(preset_names())}, or a YAML file"
    parser.add_argument("--protocol", metavar="NAME", help=f"settings of prompts and scoring: {names}")
