"""The file of a stage: a line with counts and the names behind them, then a line a class or question.

    {"stage": "articles", "inputs": "5d41402abc4b2a76", "counts": {"classes": 1000, ...}, "named": {"no page": [...]}}
    {"id": "n01440764", "name": "tench", "sources": ["Tench"], "text": "..."}

A file is written whole: it is complete or absent. `inputs` is a hash of what it was made from, so that a stage whose
inputs have changed is made again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.atomic import write_bytes
from data_prep.line_file import complete_lines

SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class StageFile:
    """What a stage found: `counts` of everything, `named` the ids behind those that matter, and its `lines`."""

    stage: str
    inputs: str
    counts: Mapping[str, int]
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lines: Sequence[Mapping[str, Any]] = ()

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        head = {"stage": self.stage, "inputs": self.inputs, "counts": self.counts, "named": self.named}
        text = "".join(json.dumps(values, ensure_ascii=False) + "\n" for values in (head, *self.lines))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode(errors="surrogatepass"))

    def summary(self) -> list[str]:
        """The counts, and the first names of each kind, as lines of output."""
        lines = [f"{self.stage}: " + ", ".join(f"{count:,} {what}" for what, count in self.counts.items())]
        for what, names in self.named.items():
            more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
            lines += [f"  {what}: {', '.join(names[:SHOWN_NAMES])}{more}"] if names else []
        return lines


def read_stage(path: Path, stage: str) -> StageFile | None:
    """The file of a stage; None if it is missing. Raises `DataError` for a damaged one."""
    if not path.is_file():
        return None
    try:
        head, *lines = (json.loads(line) for _, line in complete_lines(path))
        if head["stage"] != stage:
            raise KeyError(f"stage {stage!r}")
        return StageFile(stage, head["inputs"], head["counts"], head["named"], lines)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of the stage {stage} ({error}); delete it to make it again") from error


def hash_of(values: Iterable[Any]) -> str:
    """A hash of JSON values."""
    return hashlib.sha256(json.dumps(list(values), sort_keys=True).encode()).hexdigest()[:16]
