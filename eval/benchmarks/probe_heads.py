"""Compares the training time of heads with the authors' loop: `python -m eval.benchmarks.probe_heads [--json]`.

Shapes: `N` items, `F` positions (heads), `H` hidden size.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = command_parser(__doc__)
    add_json(parser)
    arguments = parser.parse_args(argv)
    from eval.benchmarks.probe_head_speed import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
