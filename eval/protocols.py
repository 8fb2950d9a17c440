"""Prints protocols side by side: `python -m eval.protocols [NAME or YAML ...] [--json]`.

It prints the shipped protocols (or those given) side by side, a line a setting: what differs is marked, and what the
setting decides in the authors' code is named by its number in `eval.paper.audit`, whose list follows the table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from eval.paper.protocol_table import as_json, as_text, protocol_lines
from eval.tasks.presets import preset_names


def main(argv: Sequence[str] | None = None) -> None:
    """Print protocols side by side. Exits with code 2 for an unknown one."""
    parser = command_parser(__doc__)
    parser.add_argument("protocols", nargs="*", metavar="NAME", help="shipped protocols or YAML files (default: all)")
    add_json(parser, "the table")
    arguments = parser.parse_args(argv)
    names = arguments.protocols or preset_names()
    try:
        lines = protocol_lines(names)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, as_json(names, lines)):
        print(as_text(names, lines))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
