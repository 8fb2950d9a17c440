"""An image that is a part of a larger file, such as a member of a tar."""

import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from configs.errors import DataError
from data_prep.remote_tars import RemoteTar


@dataclass(frozen=True, slots=True)
class FileRange:
    """`size` bytes of `file` from byte `offset` on. Calling it reads them, so it can be a `Sample.image`.

    With `in_place` a build does not copy them: the index points into the file, which must not be moved.
    """

    file: Path | RemoteTar
    offset: int
    size: int
    in_place: bool = False

    def __call__(self) -> bytes:
        """The bytes. Raises `DataError` if the file ends before, or a remote one has changed."""
        with FileIO(self.file) if isinstance(self.file, Path) else self.file.open() as file:
            data = os.pread(file.fileno(), self.size, self.offset)
        if len(data) != self.size:
            raise DataError(
                f"{self.file} ends at byte {self.offset + len(data)}, inside a member; is the download complete?"
            )
        return data
