"""Nearest neighbours among hidden states: which training images does the model see as the test image's like?

    python -m eval.knn --config FILE.yaml --train SOURCE                 extract, classify, report
    python -m eval.knn --config FILE.yaml --train SOURCE --encoder       among the image encoder's features
    python -m eval.knn --config FILE.yaml --train SOURCE --set knn.k=[20] --set knn.metric=l2

    --processes 4               states extracted by four processes (one GPU each, where there are several)
    --worker 3 --workers 16     one of sixteen array tasks that extract; the same command without them classifies
    --dry-run                   what it needs of disk and memory

A test item gets the class that its k most similar training items vote for, by majority or weighted by similarity (the
paper's Appendix C.5 names the method and gives no number). The states are those of `python -m eval.probing`, stored
once for both: at `probe.token_positions` of the language model's last layer, or a CLIP's image features. All settings
are in `knn`; every k and vote is reported. Memory does not grow with the numbers of items.

Files in the evaluation's folder: features/ (the states), knn.json, knn.html.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from eval.runner.arguments import add_protocol_argument, add_worker_arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Classify by neighbours. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    from eval.probe_model import states_of  # after parsing: --help needs no torch
    from eval.probes.knn import as_text, check_neighbours, knn_report
    from eval.reports.knn_page import write_knn

    try:
        states = states_of(arguments, check_neighbours)
        if states is None:
            return
        result = knn_report(states)
        write_knn(states.folder, result)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, result):
        print(as_text(result))
        print(f"page: {states.folder.knn('html')}")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="evaluation: model and test source")
    parser.add_argument("--train", metavar="SOURCE", help="source of the neighbours (default: probe_source)")
    parser.add_argument("--encoder", action="store_true", help="probe.part=encoder; a CLIP has nothing else")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    add_worker_arguments(parser, "only extracts", "extract nothing; use the stored states")
    add_protocol_argument(parser)
    add_dry_run(parser, "the disk space and memory that are needed")
    add_json(parser)
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
