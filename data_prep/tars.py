"""The samples of several tars, local or behind URLs, as one sequence."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from data_prep.file_paths import FilePaths, distinct_names
from data_prep.file_range import FileRange
from data_prep.remote_tars import RemoteTar, index_remote_tars
from data_prep.tar_index import Entry, Field, Fields, index_tar


@dataclass(frozen=True, slots=True)
class Tars:
    """Indexed tars; `starts[i]` samples come before those of tar i, whose ids begin with `names[i]`."""

    files: list[Path | RemoteTar]
    names: list[str]
    entries: list[list[Entry]]
    starts: list[int]

    def __len__(self) -> int:
        return self.starts[-1]

    def entry(self, number: int) -> tuple[Path | RemoteTar, str, Fields | str]:
        """(tar, id, fields or what is wrong) of a sample."""
        tar = bisect_right(self.starts, number) - 1
        key, fields = self.entries[tar][number - self.starts[tar]]
        return self.files[tar], f"{self.names[tar]}/{key}", fields


def open_tars(paths: FilePaths) -> Tars:
    """The samples of all tars in `paths`. Raises `DataError` that names the damaged ones."""
    found = paths.files()
    names = distinct_names(found)
    indexed = iter(index_remote_tars([file for file in found if isinstance(file, str)], paths.cache))
    files: list[Path | RemoteTar] = []
    entries = []
    for file in found:
        remote = next(indexed) if isinstance(file, str) else None
        files.append(remote.tar if remote else Path(file))
        entries.append(remote.entries if remote else index_tar(Path(file), str(file)))
    return Tars(files, names, entries, [0, *accumulate(map(len, entries))])


def text_of(file: Path | RemoteTar, field: Field) -> str:
    """The text of a text member, without white space around it. Raises `UnicodeDecodeError` if it is not UTF-8."""
    text = field.text
    if text is None:
        text = FileRange(file, field.offset, field.size)().decode("utf-8-sig")
    return text.strip()
