"""Command-line arguments that several programs of `eval` have: workers and protocol."""

import argparse

from eval.tasks.presets import preset_names


def add_worker_arguments(parser: argparse.ArgumentParser, worker_help: str, report_help: str) -> None:
    """`--worker I`, `--workers N`, `--processes P`, `--report-only`."""
    parser.add_argument("--worker", type=int, metavar="I", help=f"index of this job, from 0 to N - 1; {worker_help}")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="number of jobs that share the items")
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="processes on this machine (default 1)")
    parser.add_argument("--report-only", action="store_true", help=report_help)


def add_protocol_argument(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """`--protocol NAME`."""
    names = f"{', '.join(preset_names())}, or a YAML file"
    parser.add_argument("--protocol", default=default, metavar="NAME", help=f"settings of prompts and scoring: {names}")
