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

from configs.command_line import add_dry_run, add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from configs.evaluation import EvalConfig
from configs.load import load_config
from eval.probes.accuracy import as_text
from eval.probes.class_names import match_test_classes
from eval.probes.extraction import extract, states_configs
from eval.probes.report import probe_report
from eval.probes.requirements import needs_of, needs_text
from eval.runner.arguments import add_protocol_argument, add_worker_arguments
from eval.runner.batching import Share
from eval.runner.dry_run import model_line
from eval.runner.training_data import probe_notes
from eval.tasks.presets import preset_overrides


def main(argv: Sequence[str] | None = None) -> None:
    """Probe a model. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    try:
        config, _ = load_config(EvalConfig, arguments.config, _overrides(arguments))
        share = Share.of(arguments.worker, arguments.workers)
        if arguments.dry_run:
            notes = [*match_test_classes(config).notes, *probe_notes(config)]
            print(needs_text([needs_of(source) for source in states_configs(config)], notes))
            print(model_line(states_configs(config)[0]))
            return
        match_test_classes(config)  # refused before hours are spent on states
        if not arguments.report_only:
            extract(config, share, arguments.processes)
        if arguments.workers == 1:
            result = probe_report(config)
            if not emit_json(arguments.json, result):
                print(as_text(result))
    except UserError as error:
        exit_on_user_error(error)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The flags as the settings they are short for; `--set` overrides them all."""
    settings = list(preset_overrides(arguments.protocol))
    if arguments.train is not None:
        settings.append(f"probe_source={arguments.train}")
    if arguments.epochs is not None:
        settings += [f"probe.epochs={arguments.epochs}", f"probe.encoder_epochs={arguments.epochs}"]
    if arguments.precision is not None:
        settings.append(f"probe.precision={arguments.precision}")
    if arguments.best_on_test:
        settings.append("probe.choose_epoch=best_on_test")
    if arguments.encoder:
        settings.append("probe.part=encoder")
    return [*settings, *arguments.overrides]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="evaluation: model and test source")
    parser.add_argument("--train", metavar="SOURCE", help="source that heads are trained on (default: probe_source)")
    parser.add_argument("--epochs", type=int, help="probe.epochs and probe.encoder_epochs")
    parser.add_argument("--encoder", action="store_true", help="probe.part=encoder; a CLIP has nothing else")
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), help="probe.precision")
    parser.add_argument("--best-on-test", action="store_true", help="probe.choose_epoch=best_on_test, as the authors")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    add_worker_arguments(parser, "only extracts", "extract nothing; train on the stored states")
    add_protocol_argument(parser)
    add_dry_run(parser, "the disk space and memory that are needed")
    add_json(parser)
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
