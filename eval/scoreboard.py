"""Every number of the paper beside ours, on one page.

    python -m eval.scoreboard runs/* [--output runs]        scoreboard.html (self-contained), .md and .json

Looks for report.json and probe.json anywhere below the folders given. A row that nothing was run for says so; results
that no row of the paper belongs to are listed after them. Every number of ours has its interval, sample size and the
name and hash of its protocol.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import RunError, UserError
from configs.load import exit_on_user_error
from data_prep.atomic import write_bytes
from eval.reporting.figures import candidates_figure
from eval.reporting.page import LONG_TABLE, Block, Figure, Heading, Page, Table, Text
from eval.reporting.paper import PaperNumber, paper_numbers
from eval.reporting.paper_rows import rows_of_correlation, rows_of_probe, rows_of_report
from eval.reporting.report_page import points, protocol_tag

HEADERS = ("row", "paper", "ours", "difference", "95 % interval", "n", "protocol", "run")
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result:
    """One number of ours: a share (or a correlation), its interval, how many items, by which protocol, from where."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None
    protocol: str
    run: str


def main(argv: Sequence[str] | None = None) -> None:
    """Make the scoreboard. Exits with code 2 if a result cannot be read."""
    parser = argparse.ArgumentParser(description="Set every number of the paper beside ours.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs, or folders of evaluations")
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="where to (default: runs)")
    arguments = parser.parse_args(argv)
    try:
        content = scoreboard(arguments.folders)
    except UserError as error:
        exit_on_user_error(error)
    page = scoreboard_page(content)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for suffix, text in (
        ("html", page.html()),
        ("md", page.markdown()),
        ("json", json.dumps(content, indent=1, ensure_ascii=False) + "\n"),
    ):
        write_bytes(arguments.output / f"scoreboard.{suffix}", text.encode())
    run = sum(row["ours"] is not None for row in content["rows"])
    print(f"{run} of {len(content['rows'])} lines of the paper have a number of ours, {len(content['others'])} others")
    print(arguments.output / "scoreboard.html")


def scoreboard(folders: Sequence[Path]) -> dict[str, Any]:
    """The content of scoreboard.json: a line for every row of the paper (more where several runs have one), and the
    results that belong to none. Raises `RunError` for a folder that is not there or a damaged file.
    """
    known = paper_numbers()
    found: dict[str, list[Result]] = {}
    others: list[dict[str, Any]] = []
    for file in _files(folders):
        values = _load(file)
        results = _of_report(values, known) if file.name == "report.json" else _of_probe(values, known)
        for row, result in results:
            if row is None:
                others.append({"name": f"{values['name']} {values['label']}", "ours": asdict(result)})
            else:
                found.setdefault(row, []).append(result)
    rows = [_row(number, result) for row, number in known.items() for result in found.get(row, ())]
    missing = [_row(number, None) for row, number in known.items() if row not in found]
    order = {row: place for place, row in enumerate(known)}
    return {"rows": sorted((*rows, *missing), key=lambda line: order[line["row"]]), "others": others}


def _row(number: PaperNumber, result: Result | None) -> dict[str, Any]:
    return {
        "row": number.row,
        "source": number.source,
        "unit": number.unit,
        "paper": number.value,
        "ours": None if result is None else asdict(result),
        "difference": _difference(number, result),
    }


def _files(folders: Sequence[Path]) -> list[Path]:
    for folder in folders:
        if not folder.exists():
            raise RunError(f"no folder {folder}; give runs, or folders of evaluations")
    places = [folder for folder in folders if folder.is_dir()]
    return sorted({file for folder in places for name in ("report", "probe") for file in folder.rglob(f"{name}.json")})


def _load(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}); make it again, or delete it") from error
    return values | {"file": str(file.parent)}


def _of_report(report: dict[str, Any], known: Mapping[str, PaperNumber]) -> list[tuple[str | None, Result]]:
    if "accuracy" not in report:
        return []  # a comparison of several models has a report.json of another form
    rate, tag, run = report["accuracy"], protocol_tag(report), report["file"]
    accuracy = Result(rate["value"], rate["low"], rate["high"], rate["n"], tag, run)
    results: list[tuple[str | None, Result]] = [(row, accuracy) for row in rows_of_report(report, known)]
    for row, value in rows_of_correlation(report, known).items():
        results.append((row, Result(value, None, None, report["frequency"]["classes"], tag, run)))
    for name, value in (report.get("baselines") or {}).items():
        row = {"random": "table5/Random/ImageWikiQA", "max_frequency": "table5/MaxFreq/ImageWikiQA"}[name]
        if "imagewikiqa" in str(report["source"]).lower():
            results.append((row, Result(value, None, None, rate["n"], tag, run)))
    return results or [(None, accuracy)]


def _of_probe(probe: dict[str, Any], known: Mapping[str, PaperNumber]) -> list[tuple[str | None, Result]]:
    results: list[tuple[str | None, Result]] = []
    rows = rows_of_probe(probe, known)
    rates = rows.items() if rows else {None: probe["places"]["-1"]["accuracy"]}.items()
    for row, rate in rates:
        tag = f"probe, {probe['epochs']} epochs"
        results.append((row, Result(rate["value"], rate["low"], rate["high"], rate["n"], tag, probe["file"])))
    return results


def _difference(number: PaperNumber, result: Result | None) -> float | None:
    if result is None or result.value is None or number.value is None:
        return None
    return result.value - number.value


def scoreboard_page(content: Mapping[str, Any]) -> Page:
    """A section a table of the paper, then what stands in none."""
    blocks: list[Block] = [
        Text(
            "Shares in per cent with 95 % intervals and sample sizes; differences in points, ours less the paper's. "
            "The paper gives no intervals, and its tables mix protocols: the protocol of each of our numbers is named."
        )
    ]
    for section, rows in _sections(content["rows"]).items():
        detail = section.partition("/")[2].replace("_", " ")
        blocks.append(Heading(f"{rows[0]['source'].split(',')[0]}{f' ({detail})' if detail else ''}{_state(rows)}"))
        if section == "table9":
            blocks.append(Figure(candidates_figure(rows), "Classes to choose from; hollow: the paper, filled: ours."))
        lines = [[_short(row["row"], section), *_cells(row)[1:]] for row in rows]
        blocks.append(Table(HEADERS, lines, numeric=frozenset({1, 2, 3, 5})))
    if content["others"]:
        lines = [
            _cells({"row": other["name"], "paper": None, "difference": None, **other}) for other in content["others"]
        ]
        blocks += [
            Heading("Results that no row of the paper belongs to"),
            Table(HEADERS, lines, numeric=frozenset({1, 2, 3, 5})),
        ]
    return Page("The paper's numbers and ours", blocks)


def _sections(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The lines by table of the paper; one longer than a page shows unfolded is split by experiment."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tables.setdefault(row["row"].split("/")[0], []).append(row)
    sections: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parts = row["row"].split("/")
        long = len(tables[parts[0]]) > LONG_TABLE
        sections.setdefault("/".join(parts[:2]) if long else parts[0], []).append(row)
    return sections


def _short(row: str, section: str) -> str:
    """What of a row's name its heading does not say already.

    >>> _short("table1/open_world/LLaVA1.5-7B/ImageNet", "table1/open_world")
    'LLaVA1.5-7B, ImageNet'
    """
    return row.removeprefix(f"{section}/").replace("/", ", ").replace("_", " ")


def _state(rows: Sequence[Mapping[str, Any]]) -> str:
    return f": {sum(row['ours'] is not None for row in rows)} of {len(rows)} run"


def _cells(row: Mapping[str, Any]) -> list[str]:
    ours, correlated = row["ours"], row.get("unit") == "correlation"
    paper = "n/a" if row["paper"] is None else _number(row["paper"], correlated)
    if ours is None:
        return [row["row"], paper, NOT_RUN, "", "", "", "", ""]
    number = "n/a" if ours["value"] is None else _number(ours["value"], correlated)
    difference = "" if row["difference"] is None else points(row["difference"])
    if correlated and row["difference"] is not None:
        difference = f"{row['difference']:+.2f}"
    interval = "" if ours["low"] is None else f"{100 * ours['low']:.1f} to {100 * ours['high']:.1f}"
    return [row["row"], paper, number, difference, interval, f"{ours['n']:,}", ours["protocol"], ours["run"]]


def _number(value: float, correlated: bool) -> str:
    return f"{value:.2f}" if correlated else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
