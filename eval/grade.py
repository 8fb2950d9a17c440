"""Applies graders to the stored answers of an evaluation, next to its own score; the model is not run again.

    python -m eval.run --config configs/eval/flowers102_open_world.yaml                            # once: the answers
    python -m eval.grade --config configs/eval/flowers102_open_world.yaml --grader word exact      # a row for each rule

A grader is chosen by name; NAME@LABEL stores its grades under a name of your own, such as two encoders compared. Each
grade is a line in the evaluation's folder: after a kill the same command continues, and a graded answer is not graded
again. The report of the evaluation then has a section "Graders"; its accuracy is still the protocol's.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.command_line import add_dry_run, add_json, config_parser, emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from eval.graders.registry import GRADERS
from eval.runner.arguments import add_protocol_argument, eval_config_of


def main(argv: Sequence[str] | None = None) -> None:
    """Grade. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    from eval.grade_folders import grade_folders, plan_of, plan_text  # after parsing: --help needs no report

    try:
        config, names, folders = _wanted(arguments)
        if arguments.dry_run:
            plan = plan_of(config, names, folders)
            if not emit_json(arguments.json, plan):
                print(plan_text(plan))
            return
        reports = grade_folders(config, names, folders)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, [_result(report) for report in reports]):
        from eval.reports.grade_lines import grade_lines

        print("\n".join(line for report in reports for line in grade_lines(report)))


def _wanted(arguments: argparse.Namespace) -> tuple[EvalConfig, list[str], list[EvalDir]]:
    """The config, the graders' names and the folders of answers. Raises `ConfigError` if one of them is missing."""
    from eval.runner.output_paths import output_paths_of

    config = eval_config_of(arguments)
    names = list(dict.fromkeys(arguments.grader or config.grading.graders))
    if not names:
        raise ConfigError(f"no grader is named; give --grader NAME, or set grading.graders: {', '.join(GRADERS)}")
    folders = output_paths_of(config).existing()
    if not folders:
        root = output_paths_of(config).root
        raise ConfigError(f"{root} holds no answers yet; run python -m eval.run --config {arguments.config} first")
    return config, names, folders


def _result(report: Mapping[str, Any]) -> dict[str, Any]:
    """What `--json` prints of one evaluation."""
    return {key: report[key] for key in ("name", "label", "model", "accuracy", "grades")}


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, EvalConfig)
    parser.add_argument(
        "--grader", nargs="+", metavar="NAME", help=f"graders, NAME or NAME@LABEL: {', '.join(GRADERS)}"
    )
    add_protocol_argument(parser)
    add_dry_run(parser, "how many answers each grader would grade")
    add_json(parser, "the grades' numbers")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
