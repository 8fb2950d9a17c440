"""Measures how far graders of open-world answers agree with a person's labels: rules, and a language model as judge.

    python -m eval.judge_agreement --output runs/judge                                     # the rules; nothing is asked
    python -m eval.judge_agreement --output runs/judge --set grading.judge=api:gpt-4o --dry-run       # what it may cost
    python -m eval.judge_agreement --output runs/judge --set grading.judge=api:gpt-4o

The labelled answers are shipped (70, eval/graders/labelled_answers.jsonl); --labels names a file of your own. For each
grader: the share of answers on which it agrees that they are right or not, and Cohen's kappa, with 95 % intervals; for
the judge the same over its five outcomes, and every answer on which it differs. The judge's replies are kept: after a
kill the same command continues and asks nothing twice. Address and key: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, add_json, add_output_folder, command_parser, emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.grading import GradingConfig

PREFIX = "grading."


def main(argv: Sequence[str] | None = None) -> None:
    """Measure. Exits with code 2 on a mistake in arguments or labels, or if the judge cannot be asked."""
    arguments = _parser().parse_args(argv)
    from eval.graders.labelled_answers import SHIPPED, read_labelled  # after parsing: --help needs none of these
    from eval.reports.agreement import agreement_page, measure, write_agreement

    try:
        labelled = read_labelled(arguments.labels or SHIPPED)
        found = measure(labelled, _grading(arguments.overrides), arguments.output, dry_run=arguments.dry_run)
        if arguments.dry_run:
            emit_json(arguments.json, found)
            return
        file = write_agreement(arguments.output, found)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, found):
        print(f"{agreement_page(found).markdown()}\n{file}")


def _grading(overrides: Sequence[str]) -> GradingConfig:
    """The settings of `--set grading.KEY=VALUE`. Raises `ConfigError` for another setting."""
    from configs.layers import override_layer
    from configs.merge import config_of_layers

    if other := [text for text in overrides if not text.startswith(PREFIX)]:
        raise ConfigError(f"--set {other[0]} is no setting of grading; write --set grading.KEY=VALUE")
    layers = [override_layer(text.removeprefix(PREFIX)) for text in overrides]
    config, _ = config_of_layers(GradingConfig, Path("--set"), layers)
    return config


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--labels", type=Path, metavar="FILE", help="labelled answers as JSON lines (default: shipped)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="a setting grading.KEY"
    )
    add_output_folder(parser, "agreement.json, agreement.md, agreement.html and the judge's replies")
    add_dry_run(parser, "how many questions the judge would be asked, and what that may cost")
    add_json(parser, "the agreement")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
