"""Reruns the paper's experiments on one model and compares the results with the paper's numbers.

    python -m eval.reproduce --model runs/flowers102_projector --datasets flowers102 imagewikiqa --dry-run
    python -m eval.reproduce --model llava-hf/llava-1.5-7b-hf --protocol official --processes 8
    python -m eval.reproduce --model runs/demo_mix --datasets demo demo_knowledge --limit 100
    python -m eval.reproduce --model runs/imagenet_llava_mix --datasets forgetting    # Table 13, and the base model too
    ... --worker 3 --workers 16       one of sixteen array tasks; `--report-only` finishes when all have ended

Every row of every data set is evaluated, rescored from stored answers, or listed with the reason why it cannot run.
Answers are kept: after a kill the same command resumes, and an answered item is not evaluated again. At the end
`scoreboard.html` in the folder of all runs has the results of this model and of all others that lie there.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from configs.command_line import (
    STDOUT,
    add_dry_run,
    add_json,
    add_output_folder,
    command_parser,
    emit_json,
    exit_on_user_error,
)
from configs.errors import ConfigError, UserError
from configs.run_dir import run_of
from eval.paper.execute import ask, finish, write_record
from eval.paper.forgetting import (
    GROUPS,
    Evaluated,
    Group,
    forgetting,
    forgetting_page,
    write_forgetting,
)
from eval.paper.plan import Request, dataset_names, open_dataset, plan
from eval.paper.plan_table import outcome_table, plan_table, plan_values
from eval.paper.scoreboard import write_scoreboard
from eval.runner.arguments import add_protocol_argument, add_worker_arguments
from eval.runner.batching import Share
from eval.runner.dry_run import model_line
from eval.runner.evaluated_model import identify_model

PROTOCOL = "paper"  # without --protocol; forgetting has its own
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
    group = _group(arguments.datasets)
    request = _request(arguments, group)
    datasets = arguments.datasets if group is None else group.datasets
    requests = [request, *([] if group is None else base_requests(request))]
    plans = [plan([open_dataset(name, one) for name in datasets], one) for one in requests]
    if arguments.dry_run:
        checked = [model_line(planned[0].config) for planned in plans]
        if not emit_json(arguments.json, {"plans": [plan_values(planned) for planned in plans]}):
            print("\n".join(f"{plan_table(planned)}\n{line}" for planned, line in zip(plans, checked, strict=True)))
        return
    output = _output_folder(arguments)
    if not arguments.report_only:
        for planned in plans:
            ask(planned, share, arguments.processes)
        if arguments.workers > 1:
            return
    outcomes = [finish(planned) for planned in plans]
    protocol = Path(request.protocol).stem
    records, lines = [], []
    for planned, rows in zip(plans, outcomes, strict=True):
        if arguments.json != STDOUT:
            print(outcome_table(rows))  # before anything that may fail
        records.append(write_record(planned[0].config, protocol, rows))
        lines.append(str(records[-1]))
    found = None
    if len(plans) > 1:
        tuned, base = (
            [Evaluated(*pair) for pair in zip(*both, strict=True)] for both in zip(plans, outcomes, strict=True)
        )
        found = forgetting((requests[1].model, request.model), list(zip(base, tuned, strict=True)))
        file = write_forgetting(output, f"{protocol}-{Path(request.model).name}", found)
        lines.append(f"{forgetting_page(found).markdown()}\n{file}")
    board = write_scoreboard([output], output)
    models = [
        {"model": one.model, "record": str(record), "rows": [asdict(row) for row in rows]}
        for one, record, rows in zip(requests, records, outcomes, strict=True)
    ]
    if not emit_json(arguments.json, {"models": models, "forgetting": found, "scoreboard": str(board)}):
        print("\n".join([*lines, str(board)]))


def _group(datasets: Sequence[str]) -> Group | None:
    """The group of data sets that is asked for. Raises `ConfigError` for a group next to other data sets."""
    named = [name for name in datasets if name in GROUPS]
    if named and len(datasets) > 1:
        raise ConfigError(f"--datasets {named[0]} stands for {', '.join(GROUPS[named[0]].datasets)}; give it alone")
    return GROUPS[named[0]] if named else None


def _request(arguments: argparse.Namespace, group: Group | None) -> Request:
    epochs = [f"probe.{key}={arguments.probe_epochs}" for key in ("epochs", "encoder_epochs")]
    return Request(
        arguments.model,
        arguments.protocol or (PROTOCOL if group is None else group.protocol),
        (*(epochs if arguments.probe_epochs is not None else ()), *arguments.overrides),
        tuple(arguments.rows),
        arguments.limit,
        arguments.checkpoint,
    )


def base_requests(request: Request) -> list[Request]:
    """The same of the model's base; nothing for a model as published, which has none."""
    base = identify_model(request.model)
    return [replace(request, model=base.base, checkpoint="export")] if base.finetuned else []


def _output_folder(arguments: argparse.Namespace) -> Path:
    """The folder of the scoreboard, made now, so that no work is lost. Raises `ConfigError` if it cannot be made."""
    run = run_of(arguments.model)
    output: Path = arguments.output or (Path("runs") if run is None else run.root.parent)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {output} ({error.strerror}); set --output to another") from error
    return output


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="run, checkpoint, export, model folder or hub id")
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=list(PAPER_DATASETS),
        metavar="NAME",
        help=f"{', '.join(dataset_names())}, or evaluation YAML files (default: the paper's five); or one of "
        f"{', '.join(GROUPS)}: Table 13, of the model and of its base",
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
    add_protocol_argument(parser)
    add_output_folder(parser, "the scoreboard of all runs in FOLDER", default="the folder of the run, or runs")
    add_dry_run(parser, "all rows, their questions, and how many forward passes they need")
    add_json(parser, "every row's outcome, and the forgetting table,")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
