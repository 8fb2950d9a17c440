"""Files of lines that are only ever appended, such as JSONL: a kill loses no finished line, and one process writes.

A last line without a line end was cut off by a kill: readers leave it out, and `LineAppender` removes it.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from configs.errors import RunError
from data_prep.file_lock import try_lock_file


def complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of each line that is complete and not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") and line.strip():  # a blank line was left by an editor
                yield number, line[:-1]


def json_line(values: Any) -> str:
    """The values as one line of JSON with its line end; what is no Unicode (half a character) is escaped."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(values)
    return f"{text}\n"


class LineAppender:
    """Appends lines to a file; when `write` returns they are on the disk.

    with LineAppender(path, "wait until it ends") as appender:
        appender.write([to_line(record)])

    Raises `RunError` if another process is writing the file; `advice` is the end of its message.
    """

    def __init__(self, path: Path, advice: str):
        """Open `path` for appending, make it if need be, and cut off a torn last line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        alone = True
        with suppress(OSError):  # a file system without locks: nothing is lost but the check
            alone = try_lock_file(self._file)
        if not alone:
            os.close(self._file)
            raise RunError(f"{path} is being written by another process; {advice}")
        end = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)

    def write(self, lines: Iterable[str]) -> None:
        """Append the lines, each with its line end, and wait until the disk has them."""
        data = "".join(lines).encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Let other processes write the file."""
        os.close(self._file)

    def __enter__(self) -> "LineAppender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
