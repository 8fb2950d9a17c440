"""Asks a model the questions of an evaluation and reports: `python -m eval.run --config configs/eval/FILE.yaml`.

Whatever was answered before is kept: the same command goes on after a kill, and asks nothing the second time.

    --processes 4                 four processes on this machine (one GPU each, where there are several)
    --protocol official           as the authors' code does it; paper, clean: configs/eval/protocols/
    --worker 3 --workers 16       one of sixteen array tasks; `--report-only` makes the report when all have ended
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs.command_line import config_of, config_parser, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.evaluation import EvalConfig
from configs.run_dir import EvalDir
from eval.paper.published import paper_number
from eval.reports.evaluation import write_report
from eval.reports.summary import result_line, write_summary
from eval.runner.batching import Share
from eval.runner.dry_run import preview
from eval.runner.fingerprint import check_answers, read_evaluation
from eval.runner.output_paths import NO_RUN, place_of, run_of
from eval.tasks.presets import preset_names, preset_overrides
from eval.tasks.registry import make_task
from train.models.fingerprint import model_identity


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.overrides = [*preset_overrides(arguments.protocol), *arguments.overrides]
        config = config_of(arguments, EvalConfig)
        share = Share.of(arguments.worker, arguments.workers)
        _check(config)
        if arguments.dry_run:
            print(preview(config, share))
        elif arguments.report_only:
            folders = place_of(config).existing()
            for folder in folders:
                check_weights(config, folder)
            report(config, folders)
        else:
            from eval.runner.workers import ask_every_model  # loads torch, which no other branch needs

            folders = ask_every_model(config, share, arguments.processes)
            if arguments.workers == 1:
                report(config, folders)
    except UserError as error:
        exit_on_user_error(error)


def check_weights(config: EvalConfig, folder: EvalDir) -> None:
    """Raise `RunError` if `folder` holds answers of other weights than lie in the model's folder now.

    A model that is not here (any more) is not looked for: what it answered can be reported without it.
    """
    present, run = read_evaluation(folder), run_of(config.model)
    if present is None:
        return
    exports = {NO_RUN: folder.root.name, "export": "export"}
    model = Path(config.model) if run is None else run.root / exports.get(present.label, f"export-{present.label}")
    if any(model.glob("*.safetensors")):
        check_answers(folder, replace(present, asked={**present.asked, "model": model_identity(model)}))


def report(config: EvalConfig, folders: Sequence[EvalDir]) -> None:
    """Make the report of every model that was asked, a summary if there are several, and print one line each."""
    place = place_of(config)
    if not folders:
        raise ConfigError(f"{place.root} holds no answers yet; run the same command without --report-only first")
    reports = []
    for folder in folders:
        reports.append(write_report(folder, config))
        print(f"{result_line(reports[-1])}\n  {folder.report('html')}")
    if len(reports) > 1:
        print(write_summary(place, reports))


def _check(config: EvalConfig) -> None:
    """What can be wrong is told before a model is loaded."""
    if config.protocol.task == "hidden_states":
        raise ConfigError(
            "protocol.task hidden_states has no answers to report; python -m eval.probing stores and uses it"
        )
    make_task(config.protocol)
    if config.paper_row is not None:
        paper_number(config.paper_row)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, EvalConfig)
    parser.add_argument(
        "--worker", type=int, metavar="I", help="which of --workers this is, from 0; it writes no report"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="how many jobs share the questions")
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="processes on this machine")
    parser.add_argument("--report-only", action="store_true", help="make the reports from the answers that are there")
    parser.add_argument(
        "--protocol", metavar="NAME", help=f"how to ask and judge: {', '.join(preset_names())}, or a YAML file"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be asked; load no model")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
