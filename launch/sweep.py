"""Trains several settings with several seeds, evaluates every run, and compares them in one table.

    python -m launch.sweep --config configs/demo.yaml --grid optim.lr_projector=1e-3,2e-3,4e-3 --seeds 3 --dry-run
    python -m launch.sweep --config configs/demo.yaml --grid optim.lr_projector=1e-3,2e-3 --grid train.epochs=1,3
    python -m launch.sweep --config configs/demo.yaml --list optim.lr_projector=1e-3,2e-3 --list train.epochs=3,1

Several --grid are combined, every value with every other; the values of --list go in step. Seeds count up from the
config's. Runs are trained here one after the other, or as SLURM arrays with --nodes N (the scripts and the settings
`slurm` of a single run). The same command continues: finished runs are skipped, interrupted ones resumed, further
values or seeds added. Names of runs follow from their settings.

The table has mean and 95 % interval over the seeds for each setting and evaluation. A setting is marked as best only if
the paired differences to all others over the same seeds are significant. It is printed, and written as sweep.json and
sweep.html into runs/NAME-sweep-…/, which runs/index.html leads to. Without an evaluation, held-out losses are compared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.base_models import base_model_overrides
from configs.command_line import (
    add_base_model,
    add_dry_run,
    add_json,
    config_of,
    config_parser,
    emit_json,
    exit_on_user_error,
)
from configs.errors import RunError, UserError
from configs.run import RunConfig
from data_prep.file_lock import hold_folder
from launch.cluster import Cluster, add_node_arguments, add_verbose, cluster_of
from launch.preflight import exit_with_problems
from launch.sweep_grid import GRID, LIST, combinations
from launch.sweep_plan import Sweep, SweepRequest, plan_sweep

STOPPED = 1  # exit code if runs failed or were stopped


def main(argv: Sequence[str] | None = None) -> None:
    """Plan, check, run or submit, report. Exits with 2 on a mistake, with 1 if runs failed."""
    arguments = _parser().parse_args(argv)
    from launch import sweep_report  # after parsing: statistics and pages load slowly

    failed: list[str] = []
    try:
        base = config_of(arguments, RunConfig)
        sweep = plan_sweep(_request(arguments))
        cluster = _cluster(arguments, base)
        for note in sweep.notes:
            print(note, file=sys.stderr)
        if not arguments.report_only:
            found = sweep_report.problems_of(sweep, cluster)
            if arguments.dry_run:
                plan = sweep_report.plan_of(sweep)
                printed = emit_json(arguments.json, plan)
                if not printed:
                    print(sweep_report.plan_text(plan))
                if arguments.nodes is not None and not printed:
                    sweep_report.submit(
                        sweep, cluster, _table_command(arguments), dry_run=True, scripts=arguments.verbose
                    )
                exit_with_problems(found)
                return
            exit_with_problems(found)
            _lock(sweep)
            if arguments.nodes is not None:
                sweep_report.submit(sweep, cluster, _table_command(arguments))
                return
            failed = sweep_report.run_all(sweep, arguments.ranks)
        sweep_report.report(sweep, arguments.json, emit_json)
    except UserError as error:
        exit_on_user_error(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None
    if failed:
        print("\n".join([*failed, "the same command tries these runs again"]), file=sys.stderr)
        raise SystemExit(STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    values = "KEY=VALUE,VALUE"
    parser.add_argument(
        "--grid", action="append", default=[], metavar=values, help="try every value; several are combined"
    )
    parser.add_argument(
        "--list", action="append", default=[], metavar=values, help="values that go in step with each other"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds of every setting (default: 1)")
    parser.add_argument(
        "--evaluate", action="append", default=[], metavar="FILE", help="evaluation of every run (default: `evaluate`)"
    )
    parser.add_argument("--name", help="name of the sweep's folder (default: from the config and the keys)")
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="ranks of a training here (default: one a GPU, else one)"
    )
    parser.add_argument("--nodes", type=int, metavar="N", help="submit to SLURM: nodes of each training")
    add_node_arguments(parser)
    parser.add_argument("--report-only", action="store_true", help="start nothing; make the table of what there is")
    add_dry_run(parser, "runs, steps and hours")
    add_verbose(parser)
    add_json(parser, "the table")
    return parser


def _request(arguments: argparse.Namespace) -> SweepRequest:
    named = base_model_overrides(arguments.base_model)
    asked = combinations(arguments.grid, arguments.list)
    overrides = [*named, *arguments.overrides]
    return SweepRequest(arguments.config, overrides, asked, arguments.seeds, arguments.evaluate, arguments.name)


def _cluster(arguments: argparse.Namespace, base: RunConfig) -> Cluster:
    """The machines of each training: those asked of SLURM, or this one."""
    if arguments.nodes is not None:
        return cluster_of(arguments, base.slurm)
    from launch.quickstart import count_gpus

    if arguments.ranks is not None and arguments.ranks < 1:
        raise RunError(f"--ranks is {arguments.ranks}; give 1 or more")
    gpus = count_gpus()
    return Cluster(1, min(gpus, arguments.ranks or gpus), arguments.ranks or 1)


def _table_command(arguments: argparse.Namespace) -> list[str]:
    """The command that makes the table of this sweep, for its last job."""
    words = ["-m", "launch.sweep", "--config", str(arguments.config), "--seeds", str(arguments.seeds), "--report-only"]
    given = {"--set": arguments.overrides, GRID: arguments.grid, LIST: arguments.list, "--evaluate": arguments.evaluate}
    words += [word for option, values in given.items() for value in values for word in (option, value)]
    for option, value in (("--name", arguments.name), ("--base", arguments.base_model)):
        words += [option, value] if value else []
    return words


def _lock(sweep: Sweep) -> None:
    """Raise `RunError` if another process runs the same sweep."""
    sweep.folder.root.mkdir(parents=True, exist_ok=True)
    hold_folder(sweep.folder.lock, "being run", unlocked="start this sweep once only")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
