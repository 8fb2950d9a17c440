"""Every number of the paper compared with ours, on one page.

    python -m eval.scoreboard [FOLDER ...]                       runs/scoreboard.html (self-contained), .md and .json
    python -m eval.scoreboard FOLDER ... --output OTHER          the same files in OTHER, of these folders alone

The scoreboard in runs/ always has all results below runs/, and those of the folders given. Looks for report.json,
probe.json, guidance.json and reproduction-*.json anywhere below these folders, and for the loss curves of runs. A row
that nothing was run for says so; results that no row of the paper belongs to are listed after them. Every number of
ours has its interval, sample size and the name and hash of its protocol.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_output_folder, command_parser, exit_on_user_error
from configs.errors import UserError
from eval.paper.scoreboard import write_scoreboard

RUNS = Path("runs")


def main(argv: Sequence[str] | None = None) -> None:
    """Make the scoreboard. Exits with code 2 if a result cannot be read."""
    parser = command_parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="runs, or folders of evaluations")
    add_output_folder(parser, "scoreboard.html, .md and .json", default=RUNS)
    arguments = parser.parse_args(argv)
    try:
        print(write_scoreboard(_with_runs(arguments.folders, arguments.output), arguments.output))
    except UserError as error:
        exit_on_user_error(error)


def _with_runs(folders: Sequence[Path], output: Path) -> list[Path]:
    """The folders, with all of runs/ where the page of runs/ is written: it replaces one with these results."""
    if output != RUNS and folders:
        return list(folders)
    others = [folder for folder in folders if not (folder.exists() and folder.resolve().is_relative_to(RUNS.resolve()))]
    return [*others, RUNS] if RUNS.is_dir() or not others else others


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
