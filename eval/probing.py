"""Linear probing: how much class information the language model's last layer holds (the paper's Tables 3 and 10).

    python -m eval.probing --config FILE.yaml --train SOURCE [--epochs 500]     extract, train, report
    python -m eval.probing --config FILE.yaml --train SOURCE --encoder   the image encoder instead
    python -m eval.probing --config FILE.yaml --train SOURCE --dry-run   what it needs of disk and memory

    --processes 4               states extracted by four processes (one GPU each, where there are several)
    --worker 3 --workers 16     one of sixteen array tasks that extract; the same command without them trains

One pass over the images stores the last layer's states at `probe.token_positions`; the same command resumes after a
kill. One linear layer per position is trained on them, all at once. `--set probe.KEY=VALUE` sets epochs, rate, order,
precision and which epoch counts; `--protocol official` sets what the authors do, who report the best epoch *on the
test items*.

Files in the evaluation's folder: features/SOURCE-DIGEST/ (`eval.probes.store`), probe.json (the results).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import config_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from configs.evaluation import EvalConfig
from eval.runner.arguments import add_states_arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Probe a model. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    from eval.probes.accuracy import as_text  # after parsing: --help needs no torch
    from eval.probes.preparation import prepare_states
    from eval.probes.report import probe_report

    try:
        config = prepare_states(arguments)
        if config is None:
            return
        result = probe_report(config)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, result):
        print(as_text(result))


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, EvalConfig)
    add_states_arguments(parser, "source that heads are trained on", "extract nothing; train on the stored states")
    parser.add_argument("--epochs", type=int, help="probe.epochs and probe.encoder_epochs")
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), help="probe.precision")
    parser.add_argument("--best-on-test", action="store_true", help="probe.choose_epoch=best_on_test, as the authors")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
