"""The scoreboard's three files: every number of the paper compared with ours."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.eval_dir import ResultsDir
from data_prep.run_index import write_result
from eval.paper.derived import Result
from eval.paper.published import PaperNumber, paper_numbers
from eval.paper.results import CollectedResults, collect
from eval.paper.scoreboard_page import count_run, scoreboard_page


def write_scoreboard(folders: Sequence[Path], output: Path) -> str:
    """Write the three files into `output` from what lies below `folders`; returns a summary of it.

    Raises `RunError` for a missing folder or a damaged file.
    """
    known = paper_numbers()
    found = collect(folders, known)
    content = scoreboard(found, known)
    file = write_result(ResultsDir(output).scoreboard, content, scoreboard_page(content, found, output))
    planned = sum(len(record["rows"]) for record in found.reproductions)
    found_rows = f"{count_run(content['rows'])} of the paper's numbers compared with ours"
    found_rows += f"; {planned} rows of reproductions" if planned else ""
    return f"{found_rows}, {len(content['others'])} other results\n{file}"


def scoreboard(found: CollectedResults, known: Mapping[str, PaperNumber]) -> dict[str, Any]:
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
