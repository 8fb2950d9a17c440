"""Every number of the paper beside ours, on one page.

    python -m eval.scoreboard runs/* [--output runs]        scoreboard.html (self-contained), .md and .json

Looks for report.json, probe.json, guidance.json and reproduction-*.json anywhere below the folders given, and for the
loss curves of runs. A row that nothing was run for says so; results that no row of the paper belongs to are listed
after them. Every number of ours has its interval, sample size and the name and hash of its protocol.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import UserError
from data_prep.atomic import write_bytes
from eval.paper.published import PaperNumber, paper_numbers
from eval.paper.results import Found, Result, collect
from eval.paper.scoreboard_page import how_many_run, scoreboard_page


def main(argv: Sequence[str] | None = None) -> None:
    """Make the scoreboard. Exits with code 2 if a result cannot be read."""
    parser = command_parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs, or folders of evaluations")
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="where to (default: runs)")
    arguments = parser.parse_args(argv)
    try:
        print(write_scoreboard(arguments.folders, arguments.output))
    except UserError as error:
        exit_on_user_error(error)


def write_scoreboard(folders: Sequence[Path], output: Path) -> str:
    """Write the three files into `output` from what lies below `folders`; returns what to tell of it.

    Raises `RunError` for a folder that is not there or a damaged file.
    """
    known = paper_numbers()
    found = collect(folders, known)
    content = scoreboard(found, known)
    page = scoreboard_page(content, found)
    output.mkdir(parents=True, exist_ok=True)
    for suffix, text in (
        ("html", page.html()),
        ("md", page.markdown()),
        ("json", json.dumps(content, indent=1, ensure_ascii=False) + "\n"),
    ):
        write_bytes(output / f"scoreboard.{suffix}", text.encode())
    planned = sum(len(record["rows"]) for record in found.reproductions)
    told = f"{how_many_run(content['rows'])} of the paper's numbers have one of ours beside them"
    told += f"; {planned} rows of reproductions" if planned else ""
    return f"{told}, {len(content['others'])} other results\n{output / 'scoreboard.html'}"


def scoreboard(found: Found, known: Mapping[str, PaperNumber]) -> dict[str, Any]:
    """The content of scoreboard.json: a line for every row of the paper (more where several results belong to one), the
    results that belong to none, and all rows of reproductions.
    """
    rows = [_row(number, result) for row, number in known.items() for result in (found.rows.get(row) or (None,))]
    others = [{"name": name, "ours": asdict(result)} for name, result in found.others]
    return {"rows": rows, "others": others, "reproductions": found.reproductions}


def _row(number: PaperNumber, result: Result | None) -> dict[str, Any]:
    return {
        "row": number.row,
        "source": number.source,
        "unit": number.unit,
        "paper": number.value,
        "ours": None if result is None else asdict(result),
        "difference": _difference(number, result),
    }


def _difference(number: PaperNumber, result: Result | None) -> float | None:
    if result is None or result.value is None or number.value is None:
        return None
    return result.value - number.value


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
