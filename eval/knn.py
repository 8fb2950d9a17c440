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

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import config_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from configs.evaluation import EvalConfig
from eval.runner.arguments import add_states_arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Classify by neighbours. Exits with code 2 on a mistake in configuration or data."""
    parser = config_parser(__doc__, EvalConfig)
    add_states_arguments(parser, "source of the neighbours", "extract nothing; use the stored states")
    arguments = parser.parse_args(argv)
    from eval.probes.knn import as_text, check_neighbours, knn_report  # after parsing: --help needs no torch
    from eval.probes.preparation import prepare_states
    from eval.probes.report import open_probed
    from eval.reports.knn_page import write_knn

    try:
        config = prepare_states(arguments, check_neighbours)
        if config is None:
            return
        states = open_probed(config)
        result = knn_report(states)
        write_knn(states.folder, result)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, result):
        print(as_text(result))
        print(f"page: {states.folder.knn('html')}")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
