"""Broken pipes on standard output are ignored, so that a run survives its terminal or a `| tee`.

A signal often kills the reader of the output together with the launcher. Later output is discarded; otherwise the next
`print` would raise, possibly while the last checkpoint is saved.
"""

import os
import sys
from typing import Any, TextIO, cast


class PipeSafeStream:
    """A text stream that redirects itself to /dev/null when its pipe breaks."""

    def __init__(self, stream: TextIO):
        """Wrap `stream`; all other attributes are those of `stream`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or discard it."""
        try:
            return self._stream.write(text)
        except OSError:
            self._redirect_to_null()
            return len(text)

    def flush(self) -> None:
        """Flush, or discard the buffer."""
        try:
            self._stream.flush()
        except OSError:
            self._redirect_to_null()

    def _redirect_to_null(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ignore_broken_pipe() -> None:
    """Make this process' standard output and standard error ignore broken pipes."""
    sys.stdout = cast(TextIO, PipeSafeStream(sys.stdout))
    sys.stderr = cast(TextIO, PipeSafeStream(sys.stderr))
