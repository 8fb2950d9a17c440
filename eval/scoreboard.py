"""Every number of the paper compared with ours, on one page.

    python -m eval.scoreboard runs/* [--output runs]        scoreboard.html (self-contained), .md and .json

Looks for report.json, probe.json, guidance.json and reproduction-*.json anywhere below the folders given, and for the
loss curves of runs. A row that nothing was run for says so; results that no row of the paper belongs to are listed
after them. Every number of ours has its interval, sample size and the name and hash of its protocol.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_output_folder, command_parser, exit_on_user_error
from configs.errors import UserError
from eval.paper.scoreboard import write_scoreboard


def main(argv: Sequence[str] | None = None) -> None:
    """Make the scoreboard. Exits with code 2 if a result cannot be read."""
    parser = command_parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs, or folders of evaluations")
    add_output_folder(parser, "scoreboard.html, .md and .json", default=Path("runs"))
    arguments = parser.parse_args(argv)
    try:
        print(write_scoreboard(arguments.folders, arguments.output))
    except UserError as error:
        exit_on_user_error(error)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
