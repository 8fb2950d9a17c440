"""A report as a list of blocks, written as Markdown or as one self-contained HTML page.

    page = Page("Open world", [Numbers([("accuracy", "84.4 %", "n = 50,000")]), Table(("class", "right"), rows)])
    page.html(), page.markdown()

The page loads nothing: styles are inline, figures are SVG. Whatever comes from data or from a model is escaped.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

LONG_TABLE = 60  # rows; Markdown shows the first of a longer table, HTML folds it

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: #fff; color: #1c2530;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #dde3ea; }
p { margin: .4rem 0; max-width: 46rem; }
nav ul { columns: 17rem; padding-left: 1.1rem; font-size: .9rem; margin: .8rem 0; }
a { color: #1f5fa8; }
p.warning { background: #fff4d6; border-left: 4px solid #d79b00; padding: .5rem .8rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.number { border: 1px solid #dde3ea; border-radius: .5rem; padding: .6rem .8rem; }
.number b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.number span { display: block; color: #55616e; font-size: .85rem; }
.scroll { overflow-x: auto; background:  /* a shadow at an edge behind which there is more */
  linear-gradient(to right, #fff 40%, #fff0) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, #fff 40%, #fff0) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, #1c253066, #1c253000) left / .8rem 100% no-repeat scroll,
  linear-gradient(to left, #1c253066, #1c253000) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid #e6ebf0; }
th { border-bottom: 2px solid #c9d2dc; font-weight: 600; white-space: nowrap; }
td { overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.t { min-width: 8rem; }
td.code { font-family: ui-monospace, "Liberation Mono", monospace; font-size: .82rem; overflow-wrap: anywhere; }
tbody tr:hover { background: #1f5fa80d; }
details > summary { cursor: pointer; color: #1f5fa8; margin: .4rem 0; }
figure { margin: 1rem 0; }
figure svg { width: 100%; min-width: 36rem; height: auto; max-width: 52rem; display: block; }
figcaption, .note { color: #55616e; font-size: .88rem; max-width: 46rem; }
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a `warning` stands out."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Numbers:
    """A few numbers one must not miss: (what, value, note)."""

    numbers: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under `headers`; `numeric` are the columns set flush right, `code` those in a fixed pitch."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    code: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing as SVG text, with what it shows in words."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Contents:
    """Links to all headings of a page too long to be looked through."""


Block = Heading | Text | Numbers | Table | Figure | Contents


@dataclass(frozen=True, slots=True)
class Page:
    """A title and blocks."""

    title: str
    blocks: Sequence[Block] = field(default=())

    def html(self) -> str:
        """The whole page, UTF-8, without anything to load."""
        headings = [block.text for block in self.blocks if isinstance(block, Heading)]
        parts = [_contents(headings) if isinstance(block, Contents) else _html(block) for block in self.blocks]
        body = "\n".join(parts)
        title = _escaped(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        )

    def markdown(self) -> str:
        """The page as Markdown; figures by their captions."""
        blocks = [block for block in self.blocks if not isinstance(block, Contents)]
        return "\n\n".join([f"# {_cell(self.title)}", *(_markdown(block) for block in blocks)]) + "\n"


def _html(block: Heading | Text | Numbers | Table | Figure) -> str:
    if isinstance(block, Heading):
        return f'<h2 id="{_anchor(block.text)}">{_escaped(block.text)}</h2>'
    if isinstance(block, Text):
        opening = '<p class="warning">' if block.warning else "<p>"
        return f"{opening}{_escaped(block.text)}</p>"
    if isinstance(block, Figure):
        caption = _escaped(block.caption)
        return f'<figure><div class="scroll">{block.svg}</div><figcaption>{caption}</figcaption></figure>'
    if isinstance(block, Numbers):
        cards = [
            f'<div class="number"><span>{_escaped(what)}</span><b>{_escaped(value)}</b>'
            f"<span>{_escaped(note)}</span></div>"
            for what, value, note in block.numbers
        ]
        return f'<div class="numbers">{"".join(cards)}</div>'
    return _html_table(block)


def _escaped(text: str) -> str:
    """For HTML; no line begins with a per cent sign."""
    return html.escape(text).replace(" %", "\u00a0%")


def _contents(headings: Sequence[str]) -> str:
    items = "".join(f'<li><a href="#{_anchor(text)}">{_escaped(text)}</a></li>' for text in headings)
    return f"<nav><ul>{items}</ul></nav>"


def _anchor(text: str) -> str:
    """A heading's place in the page.

    >>> _anchor("Table 1 (open world): 3 of 48 run")
    'table-1-open-world-3-of-48-run'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html_table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        kinds = ["n" if i in table.numeric else "code" if i in table.code else "t" for i in range(len(row))]
        return "".join(f'<{tag} class="{k}">{_escaped(c)}</{tag}>' for k, c in zip(kinds, row, strict=True))

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    head = f"<thead><tr>{cells(table.headers, 'th')}</tr></thead>"
    text = f'<div class="scroll"><table>{head}<tbody>\n{body}\n</tbody></table></div>'
    if len(table.rows) <= LONG_TABLE:
        return text
    return f"<details><summary>show all {len(table.rows):,} rows</summary>{text}</details>"


def _markdown(block: Heading | Text | Numbers | Table | Figure) -> str:
    if isinstance(block, Heading):
        return f"## {_cell(block.text)}"
    if isinstance(block, Text):
        return f"**{block.text}**" if block.warning else block.text
    if isinstance(block, Figure):
        return f"*Figure in report.html: {block.caption}*"
    if isinstance(block, Numbers):
        return _markdown(Table(("", "", ""), block.numbers))
    lines = [
        "| " + " | ".join(map(_cell, block.headers)) + " |",
        "|" + "|".join(" ---: " if i in block.numeric else " --- " for i in range(len(block.headers))) + "|",
        *("| " + " | ".join(map(_cell, row)) + " |" for row in block.rows[:LONG_TABLE]),
    ]
    if len(block.rows) > LONG_TABLE:
        lines.append(f"\n{len(block.rows) - LONG_TABLE:,} more rows stand in report.html and report.json.")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
