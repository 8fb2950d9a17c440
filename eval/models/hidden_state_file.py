"""The files of stored hidden states: rows of fp16, only ever appended, named by the prediction lines of their items.

    features.json              {"positions": ["-1", "mean"], "size": 4096}: a row is len(positions) x size numbers
    states-4f2a91c07b3e.f16    rows of one process; every start of a process begins a new file
    predictions-00000.jsonl    the runner's lines: id, label, `num_tokens` of the question, and in `scores` "FILE:ROW"

A row is on the disk before its line is written, so a kill leaves rows that no line names (at most a batch of them), and
never a line without its row. Files of one process need no lock.

Shapes: `N` items, `F` positions, `H` hidden size.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from configs.errors import RunError
from configs.eval_dir import EvalDir
from data_prep.atomic import sync_folder, write_bytes

ITEM_BYTES = 2  # of a number


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What a row holds: a state of `size` numbers for each of `positions`."""

    positions: tuple[str, ...]
    size: int

    @property
    def row_bytes(self) -> int:
        """Bytes of an item on the disk."""
        return len(self.positions) * self.size * ITEM_BYTES


class RowWriter:
    """Appends rows to a file of this process's own in `folder`."""

    def __init__(self, folder: EvalDir, row_format: RowFormat):
        """Say what rows are like; every worker writes the same. The file comes with the first row."""
        self.folder, self.row_format = folder, row_format
        self._rows = 0
        self._file: int | None = None
        self._path = folder.hidden_states(secrets.token_hex(6))
        folder.root.mkdir(parents=True, exist_ok=True)
        write_bytes(folder.features, (json.dumps(asdict(row_format)) + "\n").encode())

    def append(self, states: torch.Tensor) -> list[str]:
        """Write (N, F, H) fp16 rows and wait until the disk has them; returns their names, "FILE:ROW"."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            sync_folder(self.folder.root)
        data = memoryview(states.numpy().astype("<f2").tobytes())
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        first, self._rows = self._rows, self._rows + len(states)
        return [f"{self._path.name}:{row}" for row in range(first, self._rows)]


def read_row_format(folder: EvalDir) -> RowFormat:
    """What rows in `folder` are like. Raises `RunError` if its file is missing or damaged."""
    try:
        values = json.loads(folder.features.read_text(encoding="utf-8-sig"))
        return RowFormat(tuple(values["positions"]), int(values["size"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder.features} cannot be read ({error}); delete {folder.root} to extract again") from error


def open_rows(file: Path, row_format: RowFormat) -> "np.ndarray[tuple[int, ...], np.dtype[np.float16]]":
    """All whole rows of a file, mapped and not read."""
    try:
        rows = file.stat().st_size // row_format.row_bytes
        return np.memmap(file, dtype="<f2", mode="r", shape=(rows, len(row_format.positions), row_format.size))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); delete {file.parent} to extract again") from error
