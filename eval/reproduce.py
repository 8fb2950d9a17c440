"""Reruns the paper's experiments on one model and compares the results with the paper's numbers.

    python -m eval.reproduce --model runs/flowers102_projector --datasets flowers102 imagewikiqa --dry-run
    python -m eval.reproduce --model llava-hf/llava-1.5-7b-hf --protocol official --processes 8
    python -m eval.reproduce --model runs/demo_mix --datasets demo demo_knowledge --limit 100
    ... --worker 3 --workers 16       one of sixteen array tasks; `--report-only` finishes when all have ended

Every row of every data set is evaluated, rescored from stored answers, or listed with the reason why it cannot run.
Answers are kept: after a kill the same command resumes, and an answered item is not evaluated again. At the end
`scoreboard.html` in the folder of all runs has the results of this model and of all others that lie there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, add_output_folder, command_parser, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run_dir import run_of
from eval.paper.execute import ask, finish, write_record
from eval.paper.plan import Request, dataset_names, open_dataset, plan
from eval.paper.plan_table import outcome_table, plan_table
from eval.paper.scoreboard import write_scoreboard
from eval.runner.arguments import add_protocol_argument, add_worker_arguments
from eval.runner.batching import Share
from eval.runner.dry_run import model_line

PAPER_DATASETS = ("imagenet", "flowers102", "stanford_cars", "caltech101", "imagewikiqa")


def main(argv: Sequence[str] | None = None) -> None:
    """Rerun the paper's experiments. Exits with code 2 on a mistake in arguments or data."""
    arguments = _parser().parse_args(argv)
    try:
        reproduce(arguments)
    except UserError as error:
        exit_on_user_error(error)


def reproduce(arguments: argparse.Namespace) -> None:
    """Plan, ask, finish, write the scoreboard."""
    share = Share() if arguments.report_only else Share.of(arguments.worker, arguments.workers)
    if arguments.checkpoint == "all":
        raise ConfigError("--checkpoint all names several models; give export, last or a step number")
    epochs = [f"probe.{key}={arguments.probe_epochs}" for key in ("epochs", "encoder_epochs")]
    request = Request(
        arguments.model,
        arguments.protocol,
        (*(epochs if arguments.probe_epochs is not None else ()), *arguments.overrides),
        tuple(arguments.rows),
        arguments.limit,
        arguments.checkpoint,
    )
    planned = plan([open_dataset(name, request) for name in arguments.datasets], request)
    if arguments.dry_run:
        print(plan_table(planned))
        print(model_line(planned[0].config))
        return
    run = run_of(arguments.model)
    output = arguments.output or (Path("runs") if run is None else run.root.parent)
    try:
        output.mkdir(parents=True, exist_ok=True)  # now, so that no work is lost
    except OSError as error:
        raise ConfigError(f"cannot make the folder {output} ({error.strerror}); set --output to another") from error
    if not arguments.report_only:
        ask(planned, share, arguments.processes)
        if arguments.workers > 1:
            return
    outcomes = finish(planned)
    print(outcome_table(outcomes))
    print(write_record(planned[0].config, Path(request.protocol).stem, outcomes))
    print(write_scoreboard([output], output))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="run, checkpoint, export, model folder or hub id")
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=list(PAPER_DATASETS),
        metavar="NAME",
        help=f"{', '.join(dataset_names())}, or evaluation YAML files (default: the paper's five)",
    )
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="ROW", help="run only these rows (default: all; see --dry-run)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="evaluate only N items of each data set, chosen by their ids"
    )
    parser.add_argument("--checkpoint", default="export", help="checkpoint of a run: export, last or a step number")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="setting of all rows"
    )
    parser.add_argument(
        "--probe-epochs", type=int, metavar="N", help="probe.epochs and probe.encoder_epochs of all rows"
    )
    add_worker_arguments(parser, "writes no report", "run no model; finish from the stored answers")
    add_protocol_argument(parser, default="paper")
    add_output_folder(parser, "the scoreboard of all runs in FOLDER", default="the folder of the run, or runs")
    add_dry_run(parser, "all rows, their questions, and how many forward passes they need")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
