"""An image in a cell of a parquet file, read when it is needed. Needs the package pyarrow, an optional extra.

ParquetBytes(file, version, "image.bytes", row=17)()                            a column of structs {bytes, path}
ParquetBytes(file, version, "images.list.element.bytes", row=17, item=0)()      a column of lists of them
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError, first_line
from data_prep.images import ImageError


@dataclass(frozen=True, slots=True)
class ParquetBytes:
    """The bytes in one cell: `leaf` is the column's path in the file, `item` the number in a list.

    Calling it reads them, so it can be a `Sample.image`. `version` identifies the content of the file.
    """

    file: str
    version: str
    leaf: str
    row: int
    item: int = 0

    def __call__(self) -> bytes:
        """The bytes. Raises `ImageError` for a cell without any, `DataError` if the file is damaged."""
        group, first = _group_of(self.file, self.version, self.row)
        value = _column(self.file, self.version, group, self.leaf)[self.row - first].as_py()
        if isinstance(value, list):
            value = value[self.item]
        if isinstance(value, dict):
            value = value[self.leaf.rpartition(".")[2]]
        if not isinstance(value, bytes):
            raise ImageError(f"empty image: {self.leaf} of row {self.row} holds no bytes")
        return value


def pyarrow() -> Any:
    """The package pyarrow. Raises `ConfigError` that names the extra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "a parquet file needs the package pyarrow; install it: pip install 'vlm-classify[parquet]'"
        ) from error
    return pyarrow


def version_of(file: Path) -> str:
    """Identity of a parquet file's content: its size and its end, which describes every column chunk."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 65536))
        return f"{size} {hashlib.sha256(stream.read()).hexdigest()[:16]}"


@lru_cache(maxsize=8)
def open_parquet(file: str, version: str) -> Any:
    """The opened file; `version` is in the key of the cache, so that a replaced file is opened again.

    Raises `DataError` if it is damaged.
    """
    assert version
    parquet = pyarrow().parquet
    try:
        return parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error


def damaged(file: str, error: Exception) -> DataError:
    """The error for a file that pyarrow cannot read."""
    return DataError(f"{file} is a damaged parquet file: {first_line(error)[:200]}; is the download complete?")


def _group_of(file: str, version: str, row: int) -> tuple[int, int]:
    """(row group of a row, first row of that group)."""
    meta, first = open_parquet(file, version).metadata, 0
    for group in range(meta.num_row_groups):
        rows = meta.row_group(group).num_rows
        if row < first + rows:
            return group, first
        first += rows
    raise DataError(f"{file} has {first} rows, and no row {row}: it was replaced; run the build again")


@lru_cache(maxsize=2)
def _column(file: str, version: str, group: int, leaf: str) -> Any:
    """One column of one row group. A build reads rows in order, so few are kept."""
    opened = open_parquet(file, version)
    try:
        return opened.read_row_group(group, columns=[leaf]).column(0)
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error
