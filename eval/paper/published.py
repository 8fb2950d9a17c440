"""The paper's numbers, to compare with ours: `numbers.json`, row name to percentage and where it is printed.

table1/open_world/LLaVA1.5-7B/ImageNet    table3/finetuned/LLaVA1.5-7B/projector/Flowers102
table5/LLaVA1.5-7B finetuned on ImageNet+LLaVA/ImageWikiQA    table8/with_synonyms/LLaVA1.5-7B/ImageNet
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError

NUMBERS = Path(__file__).with_name("numbers.json")


@dataclass(frozen=True, slots=True)
class PaperNumber:
    """A number of the paper: accuracy as a fraction (None where it prints N/A or NaN), and its table.

    `points` are fractions, too; a `correlation`, a `ratio` and a `count` are as printed. `measure` is the number of a
    report that it is compared with: its accuracy, or one of its further numbers (`f1`).
    """

    row: str
    value: float | None
    source: str
    unit: str = "accuracy"
    measure: str = "accuracy"


def paper_number(row: str) -> PaperNumber:
    """The number called `row`. Raises `ConfigError` with the nearest names for an unknown one."""
    rows = paper_numbers()
    if row not in rows:
        near = difflib.get_close_matches(row, rows, n=3, cutoff=0.4)
        raise ConfigError(f"paper_row is {row!r}, which is no row of {NUMBERS.name}; near ones: {', '.join(near)}")
    return rows[row]


def paper_numbers() -> dict[str, PaperNumber]:
    """All numbers, in the order of the paper."""
    rows = json.loads(NUMBERS.read_text(encoding="utf-8"))["rows"]
    return {row: _number(row, values) for row, values in rows.items()}


def _number(row: str, values: dict[str, Any]) -> PaperNumber:
    unit, value = values.get("unit", "accuracy"), values["value"]
    scale = 100 if unit in ("accuracy", "points") else 1
    return PaperNumber(
        row, None if value is None else value / scale, values["source"], unit, values.get("measure", "accuracy")
    )
