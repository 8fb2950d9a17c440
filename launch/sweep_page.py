"""The table of a sweep for people: as lines of a terminal, and as a page with intervals and the state of every run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.run_dir import SweepDir
from data_prep.atomic import write_bytes
from data_prep.page import Block, Folded, Heading, Page, Table, Text
from data_prep.page_cards import Link
from data_prep.page_charts import Bar, Bars, dots
from data_prep.run_index import write_page
from launch.sweep_state import HELD_OUT

BEST = "*"
SELECTION = (
    "The settings were compared on these items, so the accuracy of the best one is optimistic; report it on others."
)
INTERVAL = "95 % interval of the mean over the seeds (Student's t); it says nothing of the choice of items."


def write_table(folder: SweepDir, table: Mapping[str, Any]) -> Path:
    """Write sweep.json and sweep.html, and update the index of all runs; returns the page."""
    folder.root.mkdir(parents=True, exist_ok=True)
    summary = {"summary": "; ".join(_summary(table))}
    write_bytes(folder.table("json"), (json.dumps({**table, **summary}, indent=1, ensure_ascii=False) + "\n").encode())
    write_page(folder.table("html"), sweep_page(table, folder.root))
    return folder.table("html")


def as_text(table: Mapping[str, Any]) -> str:
    """The tables of all measures, and what is missing or doubtful."""
    lines = []
    for measure in table["measures"]:
        lines += [f"{measure}:", aligned(list(_rows(table, measure)), _headers(table, measure))]
        lines += [table["best"][measure]["why"], ""]
    return "\n".join([*lines, INTERVAL, SELECTION, *_notes(table)])


def sweep_page(table: Mapping[str, Any], folder: Path) -> Page:
    """The page of a sweep, with links from a page in `folder` to the reports of its runs."""
    blocks: list[Block] = [Text("; ".join(_summary(table)) + ".")]
    blocks += [Text(note, warning=True) for note in _notes(table)]
    for measure in table["measures"]:
        headers = _headers(table, measure)
        numeric = frozenset(range(1, len(headers)))
        blocks += [Heading(measure), Text(_sentence(table["best"][measure]["why"])), _chart(table, measure)]
        rows = [[f"{row[0]}, best" if row[-1] else row[0], *row[1:-1]] for row in _rows(table, measure)]
        blocks.append(Table(headers[:-1], rows, numeric=numeric))
    blocks += [Text(f"{INTERVAL} {SELECTION}"), Heading("Runs")]
    runs = [_run(run, table["measures"], folder) for row in table["rows"] for run in row["runs"]]
    headers = ["run", "seed", "state", *table["measures"]]
    shown = Table(headers, runs, numeric=frozenset(range(3, len(headers))), code=frozenset({0}))
    blocks.append(Folded(f"All {len(runs)} runs and their reports", [shown]))
    return Page(f"Sweep {table['sweep']}", blocks)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _chart(table: Mapping[str, Any], measure: str) -> Bars:
    """The mean of every row with its interval."""
    bars = [_bar(number, row, measure) for number, row in enumerate(table["rows"], 1)]
    if measure != HELD_OUT:
        return dots(bars, "Mean accuracy over the seeds with its 95 % interval.")
    ends = [end for bar in bars for end in (bar.low, bar.value, bar.high) if end is not None] or [0.0]
    low, high = min(ends), max(ends)
    margin = 0.05 * (high - low) or 0.05
    ticks = [low - margin, (low + high) / 2, high + margin]
    caption = "Mean held-out loss over the seeds with its 95 % interval; lower is better."
    return Bars(bars, caption, [(tick, f"{tick:.3g}") for tick in ticks], dots=True)


def _run(run: Mapping[str, Any], measures: Sequence[str], folder: Path) -> list[str | Link]:
    """Name, seed, state and each number of a run, with a link to its report."""
    cells: list[str | Link] = [run["name"], str(run["seed"]), run["state"]]
    for measure in measures:
        value = run["values"].get(measure)
        number = "–" if value is None else _number(value["value"], measure)
        report = (value or {}).get("report")
        cells.append(Link.to(number, Path(report), folder) if report else number)
    return cells


def _summary(table: Mapping[str, Any]) -> Iterator[str]:
    yield f"{len(table['rows'])} settings x {_counted(len(table['seeds']))}"
    for measure in table["measures"]:
        found = table["best"][measure]["row"]
        if found is None:
            yield f"{measure}: {table['best'][measure]['why']}"
        else:
            row = table["rows"][found]
            yield f"{measure}: best is {_settings(row)}, {_number(row['results'][measure]['mean'], measure)}"


def _headers(table: Mapping[str, Any], measure: str) -> list[str]:
    what = "loss" if measure == HELD_OUT else "accuracy"
    return ["row", *table["rows"][0]["settings"], "seeds", f"mean {what}", "95 % interval", "of each seed", "items", ""]


def _rows(table: Mapping[str, Any], measure: str) -> Iterator[list[str]]:
    for number, row in enumerate(table["rows"]):
        result = row["results"][measure]
        values = [run["values"].get(measure, {}).get("value") for run in row["runs"]]
        each = [
            run["state"] if value is None else _number(value, measure)
            for value, run in zip(values, row["runs"], strict=True)
        ]
        yield [
            str(number + 1),
            *(_text(value) for value in row["settings"].values()),
            f"{result['n']} of {len(row['runs'])}",
            "–" if result["mean"] is None else _number(result["mean"], measure),
            _interval(result, measure),
            ", ".join(each),
            ", ".join(f"{n:,}" for n in result["items"]) or "–",
            BEST if table["best"][measure]["row"] == number else "",
        ]


def _bar(number: int, row: Mapping[str, Any], measure: str) -> Bar:
    result = row["results"][measure]
    text = "no result" if result["mean"] is None else f"{_number(result['mean'], measure)}, {_counted(result['n'])}"
    return Bar(f"{number}: {_settings(row)}", result["mean"], text, result["low"], result["high"])


def _counted(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _notes(table: Mapping[str, Any]) -> list[str]:
    """What a reader must know: notes of the plan, runs without a result, doubtful results."""
    notes = list(table["notes"])
    runs = [run for row in table["rows"] for run in row["runs"]]
    lacking = [run for run in runs if len(run["values"]) < len(table["measures"])]
    if lacking:
        shown = "; ".join(f"{run['name']}: {run['state']}" for run in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        notes.append(
            f"{len(lacking)} of {len(runs)} runs {'lacks' if len(lacking) == 1 else 'lack'} a result: {shown}{more}"
        )
    for run in runs:
        for measure, value in run["values"].items():
            if value["doubtful"]:
                notes.append(f"{run['name']}, {measure}: {value['doubtful']}")
    return notes


def _interval(result: Mapping[str, Any], measure: str) -> str:
    if result["low"] is None:
        return "–"
    low, high = (_number(result[key], measure).removesuffix(" %") for key in ("low", "high"))
    return f"{low} to {high}" + ("" if measure == HELD_OUT else " %")


def _number(value: float, measure: str) -> str:
    return f"{value:.4f}" if measure == HELD_OUT else f"{100 * value:.1f} %"


def _settings(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_text(value)}" for key, value in row["settings"].items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def aligned(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Rows as aligned columns."""
    cells = [list(headers), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)
