"""A page as a list of blocks, written as Markdown or as one self-contained HTML file.

    page = Page("Open world", [Numbers([("accuracy", "84.4 %", "n = 50,000")]), Table(("class", "right"), rows)])
    page.html(), page.markdown()

The HTML page loads nothing: styles are inline, figures are SVG. All text is escaped (`page.html.jinja`). It is light or
dark as the reader's system is, and nothing but a table, a figure or a heat map scrolls sideways.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from data_prep.figures import legend_name
from data_prep.page_cards import Cards, Link
from data_prep.page_charts import Bars, HeatMap
from data_prep.page_gallery import Gallery

LONG_TABLE = 60  # rows; Markdown prints the first of a longer table, HTML folds it
HEADED_ROWS = 24  # a longer table scrolls below its headers
LONG_CELL, LONGER_CELL = 30, 150  # characters; cells with more are not squeezed into a narrow column


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a `warning` is highlighted."""

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Numbers:
    """The main numbers, printed large: (name, value, note)."""

    kind: ClassVar[str] = "numbers"
    numbers: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts and links under `headers`; `numeric` columns are right-aligned, `code` columns are monospaced."""

    kind: ClassVar[str] = "table"
    headers: Sequence[str]
    rows: "Sequence[Sequence[str | Link]]"
    numeric: frozenset[int] = frozenset()
    code: frozenset[int] = frozenset()

    def column_class(self, column: int) -> str:
        """The CSS class of the cells of a column."""
        return "n" if column in self.numeric else "code" if column in self.code else "t"

    def cell_class(self, column: int, cell: str | Link) -> str:
        """The CSS classes of a cell: its column's, and how much text it has."""
        kind, length = self.column_class(column), len(cell.text if isinstance(cell, Link) else cell)
        if kind != "t" or length <= LONG_CELL:
            return kind
        return f"{kind} {'longer' if length > LONGER_CELL else 'long'}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot as SVG text (`data_prep.figures`), and its caption."""

    kind: ClassVar[str] = "figure"
    svg: str
    caption: str

    @property
    def min_width(self) -> int:
        """CSS pixels below which the figure scrolls instead of shrinking: its text of 11 points then has 7.8 pixels.

        >>> Figure('<svg viewBox="0 0 550 200"></svg>', "").min_width
        390
        """
        return round(self._points * 7.8 / 11)

    @property
    def max_width(self) -> int:
        """CSS pixels beyond which the figure does not grow: its text is then as high as that of the page.

        >>> Figure('<svg viewBox="0 0 550 200"></svg>', "").max_width
        800
        """
        return round(self._points * 16 / 11)

    @property
    def _points(self) -> float:
        """The width of the drawing; 0 if it does not say."""
        found = re.search(r'viewBox="0 0 ([0-9.]+) ', self.svg)
        return float(found[1]) if found else 0.0


@dataclass(frozen=True, slots=True)
class Definitions:
    """(term, text or link) pairs: one below the other on a narrow screen, where a table would scroll."""

    kind: ClassVar[str] = "definitions"
    items: Sequence[tuple[str, str | Link]]


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that are shown when the reader opens them; in Markdown they follow the summary."""

    kind: ClassVar[str] = "folded"
    summary: str
    blocks: "Sequence[Block]"
    open: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """A table of contents: links to all headings."""

    kind: ClassVar[str] = "contents"


Block = Heading | Text | Numbers | Table | Figure | Contents | Definitions | Folded | Bars | HeatMap | Gallery | Cards


@dataclass(frozen=True, slots=True)
class Page:
    """A title and blocks."""

    title: str
    blocks: Sequence[Block] = field(default=())

    def html(self, home: str = "") -> str:
        """The whole page, to be written as UTF-8; `home` is where its link to all runs leads."""
        headings = [block.text for block in self.blocks if isinstance(block, Heading)]
        return _template().render(
            title=self.title,
            blocks=self.blocks,
            headings=headings,
            long_table=LONG_TABLE,
            headed_rows=HEADED_ROWS,
            filtered=_has(self.blocks, Gallery),
            scrolled=_has(self.blocks, Table | Figure | HeatMap),
            home=home,
        )

    def markdown(self) -> str:
        """The page as Markdown; of figures and galleries only the captions."""
        return f"# {_cell(self.title)}\n\n{_all_markdown(self.blocks)}\n"


def _has(blocks: Sequence[Block], kind: type[Block] | UnionType) -> bool:
    """Whether a block, also a folded one, is of `kind`."""
    return any(isinstance(block, kind) or (isinstance(block, Folded) and _has(block.blocks, kind)) for block in blocks)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        finalize=_kept_numbers,
    )
    environment.filters["anchor"] = _anchor
    environment.filters["breakable"] = _breakable
    environment.filters["kept_together"] = _kept_together
    environment.filters["legend_name"] = legend_name
    environment.filters["as_json"] = lambda values: json.dumps(dict(values), ensure_ascii=False)
    return environment.get_template("page.html.jinja")


def _kept_numbers(value: object) -> object:
    """Text with no-break spaces before each per cent sign and around the sign in `n = 50`: no line ends there.

    >>> _kept_numbers("84.4 %, n = 50").replace(chr(160), "_")
    '84.4_%, n_=_50'
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return re.sub(r"\b(\w) = (?=\d)", "\\1\u00a0=\u00a0", value.replace(" %", "\u00a0%"))


def _kept_together(text: str) -> str:
    """A cell of numbers whose lines end before a long bracket or behind a comma or semicolon only.

    >>> _kept_together("84.0 % (80 to 88 %, n = 9); 25.0 (-0.3)").replace(chr(160), "_")
    '84.0_% (80_to_88_%, n_=_9); 25.0_(-0.3)'
    """
    return re.sub(r"(?<![,;]) (?!\([^)]{6})", "\u00a0", text)


def _breakable(text: str) -> Markup:
    """Text whose lines may end behind an underscore or a slash, as in the name of an evaluation; copied as it is.

    >>> str(_breakable("demo_mix <a>"))
    'demo_<wbr>mix &lt;a&gt;'
    """
    shown = str(escape(_kept_numbers(text)))
    return Markup(re.sub(r"(?<=\w)([_/])(?=\w)", r"\1<wbr>", shown))


def _anchor(text: str) -> str:
    """A heading's id in the HTML page.

    >>> _anchor("Table 1 (open world): 3 of 48 run")
    'table-1-open-world-3-of-48-run'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _all_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(_markdown(block) for block in blocks if not isinstance(block, Contents))


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"## {_cell(block.text)}"
        case Text():
            return f"**{block.text}**" if block.warning else block.text
        case Figure() | Bars() | HeatMap():
            return f"*Figure, in the HTML page: {block.caption}*"
        case Gallery():
            return f"*Pictures, in the HTML page: {block.caption}*"
        case Folded():
            return f"### {_cell(block.summary)}\n\n{_all_markdown(block.blocks)}"
        case Definitions():
            return "\n".join(f"- {_cell(term)}: {_cell(text)}" for term, text in block.items)
        case Cards():
            return block.markdown()
        case Numbers():
            return _table(Table(("", "", ""), block.numbers))
        case Table():
            return _table(block)
        case Contents():
            return ""


def _table(block: Table) -> str:
    lines = [
        "| " + " | ".join(map(_cell, block.headers)) + " |",
        "|" + "|".join(" ---: " if i in block.numeric else " --- " for i in range(len(block.headers))) + "|",
        *("| " + " | ".join(map(_cell, row)) + " |" for row in block.rows[:LONG_TABLE]),
    ]
    if len(block.rows) > LONG_TABLE:
        lines.append(f"\n{len(block.rows) - LONG_TABLE:,} more rows are in the HTML page and in the JSON file.")
    return "\n".join(lines)


def _cell(cell: str | Link) -> str:
    if isinstance(cell, Link):
        return f"[{_cell(cell.text)}]({cell.href}) {_cell(cell.note)}".strip()
    return " ".join(cell.split()).replace("|", "\\|")
