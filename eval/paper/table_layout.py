"""The paper's tables as it prints them: rows and columns, with our number next to each of the paper's.

    for grid in grids("table1", lines):
        grid.title, grid.table(shown), grid.table(rest)

A row of the paper is named TABLE/.../COLUMN in numbers.json; `LAYOUT` says which parts of the name are the columns, and
which part divides the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.page import Table
from eval.reports.formatting import points

Line = Mapping[str, Any]  # a line of scoreboard.json
NOT_RUN = "–"

LAYOUT: Mapping[str, tuple[int | None, int]] = {
    "table1": (0, 2),
    "table2": (1, 2),
    "table3": (0, 3),
    "table4": (1, 2),
    "table8": (None, 0),
    "table9": (1, 2),
    "table11": (0, 2),
    "table12": (1, 2),
}
"""Table to the part of a row's name that divides it and the part that is the column; others: none, the last part."""


@dataclass(slots=True)
class Grid:
    """One table of the paper, or one division of it: lines by row title and column; several results share a cell."""

    title: str
    columns: list[str] = field(default_factory=list)
    cells: dict[str, dict[str, list[Line]]] = field(default_factory=dict)

    def run(self) -> list[str]:
        """Titles of the rows that have a number of ours."""
        return [title for title, cells in self.cells.items() if any(_ours(lines) for lines in cells.values())]

    def compared(self, titles: Sequence[str]) -> Table:
        """These rows with two columns for each of the paper's: the paper's number, and ours with the difference."""
        headers = ["", *(text for column in self.columns for text in (column, "ours"))]
        rows = []
        for title in titles:
            cells = [self.cells[title].get(column, []) for column in self.columns]
            rows.append([title, *(text for lines in cells for text in (_paper(lines), _ours(lines) or _none(lines)))])
        return Table(headers, rows, numeric=frozenset(range(1, len(headers))))

    def paper(self, titles: Sequence[str]) -> Table:
        """The paper's numbers alone."""
        rows = [[title, *(_paper(self.cells[title].get(column, [])) for column in self.columns)] for title in titles]
        return Table(["", *self.columns], rows, numeric=frozenset(range(1, 1 + len(self.columns))))


def grids(table: str, lines: Sequence[Line]) -> list[Grid]:
    """The divisions of a table, in the paper's order."""
    divided, column_part = LAYOUT.get(table, (None, -1))
    names = {line["row"]: str(line["row"]).split("/")[1:] for line in lines}
    column_part %= len(next(iter(names.values())))
    same = {
        part for part in range(len(next(iter(names.values())))) if len({name[part] for name in names.values()}) == 1
    }
    found: dict[str, Grid] = {}
    for line in lines:
        parts = names[line["row"]]
        group = parts[divided] if divided is not None else ""
        grid = found.setdefault(group, Grid(_words(group)))
        left = [part for number, part in enumerate(parts) if number not in (divided, column_part)]
        kept = [part for number, part in enumerate(parts) if number not in (divided, column_part, *same)]
        title, column = _words(", ".join(kept or left)), _words(parts[column_part])
        if column not in grid.columns:
            grid.columns.append(column)
        grid.cells.setdefault(title, {}).setdefault(column, []).append(line)
    return list(found.values())


def _words(name: str) -> str:
    return name.replace("_", " ")


def _paper(lines: Sequence[Line]) -> str:
    """The paper's number; empty where its table has no such cell."""
    if not lines:
        return ""
    value = lines[0]["paper"]
    return "n/a" if value is None else number(value, lines[0].get("unit", "accuracy"))


def _none(lines: Sequence[Line]) -> str:
    return NOT_RUN if lines else ""


def _ours(lines: Sequence[Line]) -> str:
    texts = []
    for line in lines:
        if line["ours"] is not None:
            value, unit = line["ours"]["value"], line.get("unit", "accuracy")
            gap = difference(line["difference"], unit)
            texts.append("n/a" if value is None else number(value, unit) + (f" ({gap})" if gap else ""))
    return "; ".join(texts)


def number(value: float, unit: str) -> str:
    """A value as the tables print it; shares in per cent."""
    formats = {"correlation": f"{value:.2f}", "ratio": f"{value:.1f}x", "count": f"{value:,.0f}"}
    return formats.get(unit, f"{100 * value:.1f}")


def difference(value: float | None, unit: str) -> str:
    """Ours less the paper's, shares in points; empty where one is missing."""
    if value is None:
        return ""
    formats = {"correlation": f"{value:+.2f}", "ratio": f"{value:+.1f}", "count": f"{value:+,.0f}"}
    return formats.get(unit, points(value))
