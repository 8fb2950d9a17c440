"""A few files kept open for random access; the least recently used is closed first."""

import os
from collections import OrderedDict
from collections.abc import Callable
from io import FileIO


class OpenFiles:
    """Files identified by a number; `opener(number)` opens one, and at most `limit` stay open."""

    def __init__(self, opener: Callable[[int], FileIO], limit: int) -> None:
        self._opener = opener
        self._limit = limit
        self._files: OrderedDict[int, FileIO] = OrderedDict()

    def pread(self, number: int, size: int, offset: int) -> bytes:
        """`size` bytes of a file from `offset` on; fewer if it ends earlier. Raises what the opener raises."""
        file = self._files.get(number)
        if file is not None:
            self._files.move_to_end(number)
        else:
            file = self._files[number] = self._opener(number)
            if len(self._files) > self._limit:
                self._files.popitem(last=False)[1].close()
        return os.pread(file.fileno(), size, offset)

    def close(self) -> None:
        """Close all; they are opened again when they are read."""
        while self._files:
            self._files.popitem()[1].close()
