"""Standard output that may go away: a run outlives the terminal or the `| tee` it was started in.

Signals often take the reader of the output along with the launcher. What is printed then is lost; without this, the
first line printed would raise in the middle of the last checkpoint.
"""

import os
import sys
from typing import Any, TextIO, cast


class PipeSafeStream:
    """A text stream that turns to /dev/null when nobody is left to read it."""

    def __init__(self, stream: TextIO):
        """Wrap `stream`; everything but writing is passed on to it."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or lose it."""
        try:
            return self._stream.write(text)
        except OSError:
            self._turn_away()
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was buffered."""
        try:
            self._stream.flush()
        except OSError:
            self._turn_away()

    def _turn_away(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ignore_broken_pipe() -> None:
    """Make this process' standard output and standard error last."""
    sys.stdout = cast(TextIO, PipeSafeStream(sys.stdout))
    sys.stderr = cast(TextIO, PipeSafeStream(sys.stderr))
