"""What an export's record says of how its checkpoint was chosen: `chosen` of export.json. Loads no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.run_dir import ExportDir
from configs.words import counted
from train.models.model_folder import read_object

HELD_OUT_LOSS = "held-out loss"
"""`by`, where training chose the checkpoint; an evaluation names itself."""


def evaluation_choice(export: Path) -> str:
    """Of an export that an evaluation chose (`eval.choose`), the step and by what, as a phrase; empty for others.

    Raises `ConfigError` if its record is damaged.
    """
    file = ExportDir(export).record
    record = read_object(file) if file.is_file() else {}
    chosen = record.get("chosen") or {}
    if chosen.get("by", HELD_OUT_LOSS) == HELD_OUT_LOSS:
        return ""
    return f"step {record['step']}, which was chosen by {chosen['by']}"


def choice_phrase(chosen: Mapping[str, Any]) -> str:
    """Of how many measurements a checkpoint is the best, and by what; `equal` of them were as good as it.

    >>> choice_phrase({"by": "held-out loss", "measured": 8}), choice_phrase({"by": "a", "measured": 3, "equal": 2})
    ('the best of 8 measurements by held-out loss', 'the earliest of 2 equally good ones among 3 measurements by a')
    """
    equal = chosen.get("equal", 1)
    first = "the best of" if equal == 1 else f"the earliest of {equal} equally good ones among"
    return f"{first} {counted(chosen['measured'], 'measurement')} by {chosen['by']}"
