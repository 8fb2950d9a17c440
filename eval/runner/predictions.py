"""Stored predictions: one JSON line per item, in one file per worker; a kill loses no finished line.

    {"id": "n01440764/n01440764_18", "prompt_hash": "5d41402abc4b2a76", "target": "tench", "label": 0,
     "label_name": "tench", "choices": [], "answer": "a fish", "num_tokens": 3, "stopped": true, "seconds": 0.21}
    {"id": "n01440764/n01440764_31", "failed": "does not decode: image file is truncated"}

A line holds the answer, not its score: a report computes the scores from the lines (`eval.metrics.outcomes`), so
another matching rule needs no new answers. Lines are only ever appended; a last line without a line end was cut off by
a kill, and is removed when the file is opened again. A failed item may be evaluated again later.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from configs.errors import RunError
from configs.eval_dir import EvalDir
from data_prep.file_lock import try_lock_file
from data_prep.line_file import LineAppender, complete_lines
from data_prep.shard_index import id_hash
from eval.runner.batching import selection_key, stream_ranks
from eval.types import FailedItem, ItemIndex, Prediction

UNREADABLE = "unreadable-"


OPTIONAL = ("scores", "probabilities", "item_index", "prefix", "references", "group")
"""Left out of a line where there is none."""


@dataclass(frozen=True, slots=True)
class Records:
    """All that is known of one evaluation, by item id: answers, and failures of items without an answer."""

    predictions: dict[str, Prediction]
    failures: dict[str, FailedItem]


def unreadable_id(hashed: int) -> str:
    """Stands for the id of an item of which only the hash (`data_prep.shard_index.id_hash`) is known."""
    return f"{UNREADABLE}{hashed:016x}"


def to_line(record: Prediction | FailedItem) -> str:
    """The record as one line of JSON, with its line end."""
    values = asdict(record)
    if isinstance(record, FailedItem):
        values = {"id": record.id, "failed": record.reason, "item_index": record.item_index}
    values = {key: value for key, value in values.items() if value is not None or key not in OPTIONAL}
    return json.dumps(values, ensure_ascii=False) + "\n"


def from_line(line: str) -> Prediction | FailedItem:
    """Inverse of `to_line`. Raises `ValueError`, `KeyError` or `TypeError` on anything else."""
    values = json.loads(line)
    if "item_index" in values:
        item = values["item_index"]
        values["item_index"] = ItemIndex(int(item["index"]), int(item["total"]))
    if "failed" in values:
        return FailedItem(values["id"], values["failed"], values.get("item_index"))
    values["choices"] = tuple(values["choices"])
    if values.get("references") is not None:
        values["references"] = tuple(values["references"])
    return Prediction(**values)


def read_records(folder: EvalDir) -> Records:
    """Every worker's lines together; of two answers to one item the first counts. A torn last line is left out.

    Raises `RunError` that names file and line if a complete line is not a record.
    """
    predictions: dict[str, Prediction] = {}
    failures: dict[str, FailedItem] = {}
    for path in folder.all_predictions():
        for record in _read_file(path):
            if isinstance(record, FailedItem):
                failures[record.id] = record
            else:
                predictions.setdefault(record.id, record)
    read = (*predictions, *failures)
    answered = {*predictions, *(unreadable_id(id_hash(key)) for key in read)} if failures else set()
    return Records(predictions, {key: failure for key, failure in failures.items() if key not in answered})


def select_records(records: Records, limit: int | None, item_draw: str = "id") -> Records:
    """The records of the items that `limit` chooses, in its order: a larger limit before may have left more of them.

    A failed item keeps its position: no other answer replaces it. `item_draw` is protocol.item_draw.
    """
    known: dict[str, Prediction | FailedItem] = {**records.failures, **records.predictions}
    if item_draw == "stream":
        names = sorted(known, key=lambda name: _stream_rank(known[name]))[:limit]
    else:
        names = sorted(known, key=lambda name: selection_key(hash_of(name)))[:limit]
    return Records(
        {name: records.predictions[name] for name in names if name in records.predictions},
        {name: records.failures[name] for name in names if name in records.failures},
    )


def _stream_rank(record: Prediction | FailedItem) -> int:
    """The item's index in the authors' shuffled data; every record under item_draw stream has its index."""
    item = record.item_index or ItemIndex(0, 1)
    return stream_ranks(item.total)[item.index]


def hash_of(name: str) -> int:
    """The hash of an item's id, also for an item whose id is `unreadable_id`."""
    unread = re.fullmatch(rf"{UNREADABLE}([0-9a-f]{{16}})", name)
    return int(unread[1], 16) if unread else id_hash(name)


def _read_file(path: Path) -> Iterable[Prediction | FailedItem]:
    for number, line in complete_lines(path):
        try:
            yield from_line(line.decode())
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path}, line {number} is not a prediction ({error}); delete the line to evaluate its item again"
            ) from error


def being_written(folder: EvalDir) -> bool:
    """Whether a process has one of the folder's files open for writing."""
    for path in folder.all_predictions():
        file = os.open(path, os.O_RDWR)
        try:
            if not try_lock_file(file):
                return True
        except OSError:  # a file system without locks
            return False
        finally:
            os.close(file)
    return False


class PredictionWriter:
    """Appends records to one worker's file; when `write` returns they are on the disk.

    with PredictionWriter(folder.predictions(0)) as writer:
        writer.write(records)

    Raises `RunError` if another process is writing the same file.
    """

    def __init__(self, path: Path):
        """Open `path` for appending, make it if need be, and cut off a torn last line."""
        self._lines = LineAppender(path, "wait for it, or give this one another --worker")

    def write(self, records: Iterable[Prediction | FailedItem]) -> None:
        """Append the records and wait until the disk has them."""
        self._lines.write(to_line(record) for record in records)

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
