"""The stored hidden states of one source, joined with the labels in its prediction lines.

The file format is `eval.models.hidden_state_file`'s. Shapes: `N` items, `F` positions, `H` hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from configs.errors import RunError
from configs.eval_dir import EvalDir
from eval.models.hidden_state_file import RowFormat, open_rows, read_row_format
from eval.runner.predictions import hash_of, read_records, select_records
from eval.types import FailedItem


@dataclass(frozen=True)
class StoredStates:
    """The rows of one source, in the order of their items' ids' hashes, however many workers wrote them.

    `labels`, `hashes` and `tokens` are (N,): class, id_hash and length of the question; item n is row `rows[n]` of
    `files[file_of[n]]`. `failures` are the items without a row.
    """

    row_format: RowFormat
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

    def relabelled(self, labels: torch.Tensor) -> "StoredStates":
        """The items whose entry in `labels` (N,) is not negative, with these classes."""
        kept = labels >= 0
        chosen = kept.numpy()
        return replace(
            self,
            labels=labels[kept],
            hashes=self.hashes[chosen],
            tokens=self.tokens[chosen],
            file_of=self.file_of[chosen],
            rows=self.rows[chosen],
        )

    def read(self, items: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
        """(n, len(columns), H) fp16 states of `items` at the positions numbered `columns`."""
        wanted = items.numpy()
        states = np.empty((len(wanted), len(columns), self.row_format.size), dtype=np.float16)
        whole = list(columns) == list(range(len(self.row_format.positions)))
        for number in np.unique(self.file_of[wanted]):
            here = np.flatnonzero(self.file_of[wanted] == number)
            rows = self.rows[wanted[here]]
            file = self.files[number]
            states[here] = file[rows] if whole else file[rows[:, None], np.array(columns)[None]]
        return torch.from_numpy(states)


def open_states(folder: EvalDir, limit: int | None, expected: int, item_draw: str = "id") -> StoredStates:
    """What is stored in `folder`, of the items that `limit` chooses.

    Raises `RunError` if some of the `expected` items have no states yet, or rows are lost.
    """
    records = select_records(read_records(folder), limit, item_draw)
    if missing := expected - len(records.predictions) - len(records.failures):
        raise RunError(
            f"{folder.root} lacks the states of {missing:,} of {expected:,} items; run the same command without "
            "--report-only, for every --worker"
        )
    row_format = read_row_format(folder)
    stored = sorted(records.predictions.values(), key=lambda line: hash_of(line.id))
    stored_rows = [(line.scores or ":").rpartition(":") for line in stored]
    names = sorted({name for name, _, _ in stored_rows})
    files = [open_rows(folder.root / name, row_format) for name in names]
    number = {name: index for index, name in enumerate(names)}
    file_of = np.array([number[name] for name, _, _ in stored_rows], dtype=np.int64)
    rows = np.array([int(row) for _, _, row in stored_rows], dtype=np.int64)
    for index, name in enumerate(names):
        if (last := int(rows[file_of == index].max())) >= len(files[index]):
            raise RunError(f"{folder.root / name} ends before row {last:,}; delete {folder.root} to extract again")
    return StoredStates(
        row_format,
        torch.tensor([line.label for line in stored], dtype=torch.long),
        np.array([hash_of(line.id) for line in stored], dtype=np.uint64),
        np.array([line.num_tokens for line in stored], dtype=np.int64),
        files,
        file_of,
        rows,
        list(records.failures.values()),
    )
