"""Where states lie: rows of fp16 in files that are only appended to, named by the prediction lines of their items.

    features.json              {"places": ["-1", "mean"], "size": 4096}: a row is len(places) x size numbers
    states-4f2a91c07b3e.f16    rows of one process; every start of a process begins a file of its own
    predictions-00000.jsonl    the runner's lines: id, label, `tokens` of the question, and in `scores` "FILE:ROW"

A row is on the disk before its line is written, so a kill leaves rows that no line names (at most a batch of them), and
never a line without its row. Files of one process need no lock and no agreement. Two other ways were left: one array of
all items in a sparse file, where workers on several machines would write into the same pages, which network file
systems do not keep apart; and a safetensors file for every chunk, which loses a chunk to a kill or makes 80,000 files
of ImageNet's batches.

Shapes: `N` items, `F` places, `H` size of a state.
"""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from configs.errors import RunError
from configs.run_dir import EvalDir
from data_prep.atomic import sync_folder, write_bytes
from eval.runner.predictions import chosen_records, hash_of, read_records
from eval.types import FailedItem

ITEM_BYTES = 2  # of a number


@dataclass(frozen=True, slots=True)
class RowForm:
    """What a row holds: a state of `size` numbers for each of `places`."""

    places: tuple[str, ...]
    size: int

    @property
    def row_bytes(self) -> int:
        """Bytes of an item on the disk."""
        return len(self.places) * self.size * ITEM_BYTES


def _form_file(folder: EvalDir) -> Path:
    return folder.root / "features.json"


class RowWriter:
    """Appends rows to a file of this process's own in `folder`."""

    def __init__(self, folder: EvalDir, form: RowForm):
        """Say what rows are like; every worker writes the same. The file comes with the first row."""
        self.folder, self.form = folder, form
        self._rows = 0
        self._file: int | None = None
        self._name = f"states-{secrets.token_hex(6)}.f16"
        folder.root.mkdir(parents=True, exist_ok=True)
        write_bytes(_form_file(folder), (json.dumps(asdict(form)) + "\n").encode())

    def append(self, states: torch.Tensor) -> list[str]:
        """Write (N, F, H) fp16 rows and wait until the disk has them; returns their names, "FILE:ROW"."""
        if self._file is None:
            self._file = os.open(self.folder.root / self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            sync_folder(self.folder.root)
        data = memoryview(states.numpy().astype("<f2").tobytes())
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        first, self._rows = self._rows, self._rows + len(states)
        return [f"{self._name}:{row}" for row in range(first, self._rows)]


@dataclass(frozen=True)
class StoredStates:
    """The rows of one source, in the order of their items' ids' hashes, however many workers wrote them.

    `labels`, `hashes` and `tokens` are (N,): class, id_hash and length of the question; item n is row `rows[n]` of
    `files[file_of[n]]`. `failures` are the items without a row.
    """

    form: RowForm
    labels: torch.Tensor
    hashes: "np.ndarray[tuple[int], np.dtype[np.uint64]]"
    tokens: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    files: Sequence["np.ndarray[tuple[int, ...], np.dtype[np.float16]]"]
    file_of: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    rows: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    failures: Sequence[FailedItem]

    def __len__(self) -> int:
        """How many items have a row."""
        return len(self.labels)

    def read(self, items: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
        """(n, len(columns), H) fp16 states of `items` at the places numbered `columns`."""
        wanted = items.numpy()
        states = np.empty((len(wanted), len(columns), self.form.size), dtype=np.float16)
        whole = list(columns) == list(range(len(self.form.places)))
        for number in np.unique(self.file_of[wanted]):
            here = np.flatnonzero(self.file_of[wanted] == number)
            rows = self.rows[wanted[here]]
            file = self.files[number]
            states[here] = file[rows] if whole else file[rows[:, None], np.array(columns)[None]]
        return torch.from_numpy(states)


def open_states(folder: EvalDir, limit: int | None, expected: int) -> StoredStates:
    """What is stored in `folder`, of the items that `limit` chooses.

    Raises `RunError` if some of the `expected` items were not asked yet, or rows are lost.
    """
    records = chosen_records(read_records(folder), limit)
    if missing := expected - len(records.predictions) - len(records.failures):
        raise RunError(
            f"{folder.root} lacks the states of {missing:,} of {expected:,} items; run the same command without "
            "--report-only, for every --worker"
        )
    form = read_form(folder)
    stored = sorted(records.predictions.values(), key=lambda line: hash_of(line.id))
    places = [(line.scores or ":").rpartition(":") for line in stored]
    names = sorted({name for name, _, _ in places})
    files = [_open_rows(folder.root / name, form) for name in names]
    number = {name: index for index, name in enumerate(names)}
    file_of = np.array([number[name] for name, _, _ in places], dtype=np.int64)
    rows = np.array([int(row) for _, _, row in places], dtype=np.int64)
    for index, name in enumerate(names):
        if (last := int(rows[file_of == index].max())) >= len(files[index]):
            raise RunError(f"{folder.root / name} ends before row {last:,}; delete {folder.root} to extract anew")
    return StoredStates(
        form,
        torch.tensor([line.label for line in stored], dtype=torch.long),
        np.array([hash_of(line.id) for line in stored], dtype=np.uint64),
        np.array([line.tokens for line in stored], dtype=np.int64),
        files,
        file_of,
        rows,
        list(records.failures.values()),
    )


def read_form(folder: EvalDir) -> RowForm:
    """What rows in `folder` are like. Raises `RunError` if its file is missing or damaged."""
    try:
        values = json.loads(_form_file(folder).read_text(encoding="utf-8"))
        return RowForm(tuple(values["places"]), int(values["size"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{_form_file(folder)} cannot be read ({error}); delete {folder.root} to extract anew"
        ) from error


def _open_rows(file: Path, form: RowForm) -> "np.ndarray[tuple[int, ...], np.dtype[np.float16]]":
    """All whole rows of a file, mapped and not read."""
    try:
        rows = file.stat().st_size // form.row_bytes
        return np.memmap(file, dtype="<f2", mode="r", shape=(rows, len(form.places), form.size))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); delete {file.parent} to extract anew") from error
