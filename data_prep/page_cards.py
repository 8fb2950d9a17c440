"""Cards of a page: each has a title, a small curve, facts, and links to files.

    Cards([Card("demo_mix", (("step", "366"),), (Link("report", "demo_mix/report.html", "84.4 %"),), (1.3, 0.8, 0.2))])

A block of `data_prep.page`. The curve is an SVG without text, which is as wide as its card.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

SHOWN_LINKS = 8  # of a card; the others are folded
WIDTH, HEIGHT = 200, 48  # of the curve's drawing


@dataclass(frozen=True, slots=True)
class Link:
    """A text that leads to `href` (quoted, relative to the page), and a note behind it."""

    text: str
    href: str
    note: str = ""

    @classmethod
    def to(cls, text: str, file: Path, folder: Path, note: str = "") -> "Link":
        """A link from a page in `folder` to `file`.

        >>> Link.to("report", Path("runs/a b/report.html"), Path("runs/eval")).href
        '../a%20b/report.html'
        """
        return cls(text, quote(Path(os.path.relpath(file, folder)).as_posix()), note)


@dataclass(frozen=True, slots=True)
class Card:
    """A title, (name, text) facts, links, and the values of a curve in order; `label` names the curve."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    links: Sequence[Link] = ()
    curve: Sequence[float] = ()
    label: str = ""

    @property
    def line(self) -> str:
        """The curve as points of a polyline, logarithmic if all values are positive; empty without two values.

        >>> Card("a", curve=(1.0, 10.0, 100.0)).line
        '0,46 100,24 200,2'
        """
        finite = [value for value in self.curve if math.isfinite(value)]
        if len(finite) < 2:
            return ""
        values = [math.log(value) for value in finite] if min(finite) > 0 else finite
        low, high = min(values), max(values)
        heights = [(value - low) / (high - low) if high > low else 0.5 for value in values]
        step = WIDTH / (len(values) - 1)
        return " ".join(
            f"{number * step:g},{HEIGHT - 2 - share * (HEIGHT - 4):g}" for number, share in enumerate(heights)
        )

    @property
    def shown(self) -> Sequence[Link]:
        """The links that are not folded."""
        return self.links if len(self.links) <= SHOWN_LINKS + 2 else self.links[:SHOWN_LINKS]

    @property
    def folded(self) -> Sequence[Link]:
        """The others."""
        return self.links[len(self.shown) :]


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards next to each other where there is room."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]

    def markdown(self) -> str:
        """A list item for each card."""
        return "\n".join(
            f"- {card.title}: "
            + "; ".join(
                [f"{name} {text}" for name, text in card.facts]
                + [f"[{link.text}]({link.href}) {link.note}".strip() for link in card.links]
            )
            for card in self.cards
        )
