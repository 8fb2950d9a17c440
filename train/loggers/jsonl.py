"""metrics.jsonl and events.jsonl: one JSON object per line, appended so that a killed run keeps every whole line."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.run_dir import RunDir
from data_prep.atomic import write_bytes
from data_prep.run_search import record_of_line
from train.loggers.types import Record


class JsonlLogger:
    """metrics.jsonl and events.jsonl of a run."""

    def __init__(self, run: RunDir, resume_step: int):
        """Drop the lines of metrics.jsonl after `resume_step`, so that each step occurs once."""
        run.root.mkdir(parents=True, exist_ok=True)
        drop_lines_after(run.metrics, resume_step)
        self._metrics, self._events = LineFile(run.metrics), LineFile(run.events)

    def log_step(self, record: Record) -> None:
        """Append a line; a killed run keeps it."""
        self._metrics.append(json.dumps(record))

    def log_event(self, record: Record) -> None:
        """Append a line; from any thread."""
        self._events.append(json.dumps(record))

    def close(self) -> None:
        """Close both files."""
        self._metrics.close()
        self._events.close()


class LineFile:
    """A text file to which whole lines are appended; lines that a full disk rejects are kept in memory and retried."""

    def __init__(self, path: Path):
        """Open `path` for appending."""
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """Write `line` and all pending lines, or none of them; from any thread."""
        with self._lock:
            self._waiting.append(f"{line}\n".encode())
            self._write()

    def close(self) -> None:
        """Retry once and close; the number of lost lines is printed on stderr."""
        with self._lock:
            self._write()
            self._file.close()
            if self._waiting:
                print(f"{self._path} lacks its last {len(self._waiting)} lines: no disk space left", file=sys.stderr)

    def _write(self) -> None:
        text, done = b"".join(self._waiting), 0
        try:
            before = os.fstat(self._file.fileno()).st_size
            while done < len(text):
                done += self._file.write(text[done:])
        except OSError as error:
            if done:  # not half a line; a disk that fails altogether may refuse this as well
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), before)
            if len(self._waiting) == 1:
                print(
                    f"{self._path}: {error.strerror}; lines are buffered in memory until there is space",
                    file=sys.stderr,
                    flush=True,
                )
            return
        self._waiting.clear()


def iter_records(file: Path) -> Iterator[dict[str, Any]]:
    """The records in metrics.jsonl or events.jsonl, none without the file; torn and damaged lines are skipped."""
    if file.is_file():
        with file.open("rb") as lines:
            yield from (record for line in lines if (record := record_of_line(line)) is not None)


def read_records(file: Path) -> list[dict[str, Any]]:
    """All of `iter_records`."""
    return list(iter_records(file))


def drop_lines_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a torn last line."""
    if metrics.is_file():
        kept = [json.dumps(record) + "\n" for record in iter_records(metrics) if record["step"] <= step]
        write_bytes(metrics, "".join(kept).encode())
