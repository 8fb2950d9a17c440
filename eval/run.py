"""Evaluates a model and writes its report: `python -m eval.run --config configs/eval/FILE.yaml`.

Answers are kept: after a kill the same command resumes, and an answered item is not evaluated again.

    --processes 4                 four processes on this machine (one GPU each, where there are several)
    --protocol official           as the authors' code does it; paper, clean: configs/eval/protocols/
    --worker 3 --workers 16       one of sixteen array tasks; `--report-only` makes the report when all have ended
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, config_parser, exit_on_user_error
from configs.errors import ConfigError, DataError, RunError, UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.locations import check_model_location
from configs.words import counted
from eval.metrics.frequency import frequency_notes
from eval.models.registry import backend_name
from eval.paper.comparison import comparison_with
from eval.paper.published import paper_number
from eval.reports.cut_answers import cut_note
from eval.reports.evaluation import write_report
from eval.reports.most_frequent import not_above_note
from eval.reports.summary import result_line, write_summary
from eval.reports.tensorboard_upload import write_tensorboard
from eval.reports.wandb_upload import upload
from eval.runner.arguments import add_protocol_argument, add_worker_arguments, eval_config_of
from eval.runner.batching import Share, check_described, open_source
from eval.runner.dry_run import model_line, preview
from eval.runner.output_paths import output_paths_of
from eval.runner.weights import check_weights
from eval.tasks.registry import make_task


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    try:
        config = eval_config_of(arguments)
        share = Share.of(arguments.worker, arguments.workers)
        _check(config)
        if arguments.dry_run:
            _print_plan(config, share)
        elif arguments.report_only:
            check_described(config)
            folders = output_paths_of(config).existing()
            for folder in folders:
                check_weights(config, folder)
            report(config, folders)
        else:
            if backend_name(config.model) is None:
                check_model_location(config.model)  # before its data: they are those of the run, if there is one
            for note in _frequency_notes(config):
                print(f"{config.name}: {note}", file=sys.stderr, flush=True)
            if backend_name(config.model) is None:
                print(f"{config.name}: loading PyTorch and {config.model} ...", file=sys.stderr, flush=True)
            from eval.runner.workers import evaluate_models  # loads torch, which no other branch needs

            folders = evaluate_models(config, share, arguments.processes)
            if arguments.workers == 1:
                report(config, folders)
    except UserError as error:
        exit_on_user_error(error)


def _print_plan(config: EvalConfig, share: Share) -> None:
    """What a dry run prints. Raises `ConfigError` for a model that is not there if its data are not there either."""
    try:
        notes = [f"frequency   {note}" for note in _frequency_notes(config)]
        lines = [preview(config, share), *notes]
    except DataError:
        if backend_name(config.model) is None:
            check_model_location(config.model)
        raise
    print("\n".join(lines), flush=True)
    print(model_line(config))  # may load PyTorch, while the questions are read


def report(config: EvalConfig, folders: Sequence[EvalDir]) -> None:
    """Write the report of every evaluated model, and a summary if there are several; print one line for each.

    Raises `RunError` if a model has not one answered item.
    """
    paths = output_paths_of(config)
    if not folders:
        raise ConfigError(f"{paths.root} holds no answers yet; run the same command without --report-only first")
    reports = []
    for folder in folders:
        before = _counted_before(folder)
        reports.append(write_report(folder, config, comparison_with(config.paper_row)))
        if config.limit is not None and (now := reports[-1]["items"]["answered"]) < before:
            print(
                f"{config.name}: limit={config.limit} counts {counted(now, 'answer')}, the report before {before:,}; "
                "the others are still stored, and a larger limit counts them again"
            )
        print(f"{result_line(reports[-1])}\n  {folder.report('html')}")
    if len(reports) > 1:
        print(write_summary(paths, reports))
    for note in dict.fromkeys(
        note for report in reports for note in (not_above_note(report), cut_note(report)) if note
    ):
        print(f"warning: {note}")
    upload(config, reports)
    write_tensorboard(config)
    empty = [report for report in reports if not report["items"]["answered"]]
    if empty:
        failures = empty[0]["failures"]
        first = (
            f"the first of {len(failures):,} failed items: {failures[0]['reason']}" if failures else "no item was run"
        )
        raise RunError(f"{empty[0]['name']} {empty[0]['label']} has no answered item, so there is no accuracy; {first}")


def _counted_before(folder: EvalDir) -> int:
    """The answers that the present report counts; 0 without one that can be read."""
    try:
        return int(json.loads(folder.report("json").read_text(encoding="utf-8"))["items"]["answered"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _check(config: EvalConfig) -> None:
    """Raise `ConfigError` for what can be checked before a model is loaded."""
    if config.protocol.task == "hidden_states":
        raise ConfigError(
            "protocol.task hidden_states has no answers to report; python -m eval.probing stores and uses it"
        )
    make_task(config.protocol)
    if config.paper_row is not None:
        paper_number(config.paper_row)


def _frequency_notes(config: EvalConfig) -> list[str]:
    """What is to be said about the counts of class names. Raises `DataError` as `frequency_notes`."""
    if config.frequency_file is None and not config.frequency_sources:
        return []
    return frequency_notes(config, open_source(config).manifest.class_names)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, EvalConfig)
    add_worker_arguments(parser, "writes no report", "write the reports of the stored answers; run no model")
    add_protocol_argument(parser)
    add_dry_run(parser, "model, items and the first questions")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
