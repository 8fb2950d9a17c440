"""Progress of a build: a bar on a terminal, a line every few seconds in a log file."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

LOG_SECONDS = 10.0


class Progress:
    """Counts records (or another `unit`) of one source with rate, remaining time and drops; `total` may be unknown.

    with Progress("imagenet", 1_281_167) as progress:
        progress.add(1000, drops=2)
    """

    def __init__(self, name: str, total: int | None, unit: str = "records") -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done = self._drops = 0
        self._start = self._last = time.monotonic()
        self._bar = tqdm(total=total, desc=name, unit=f" {unit}", file=sys.stderr) if sys.stderr.isatty() else None

    def add(self, records: int, drops: int) -> None:
        """`records` more are done, of which `drops` were dropped."""
        self._done += records
        self._drops += drops
        if self._bar is not None:
            self._bar.set_postfix(dropped=self._drops, refresh=False)
            self._bar.update(records)
        elif time.monotonic() - self._last > LOG_SECONDS:
            self._last = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        total = f" of {self._total:,}" if self._total is not None else ""
        left = f", {(self._total - self._done) / rate / 60:.1f} min left" if self._total and rate else ""
        return f"{self._name}: {self._done:,}{total} {self._unit}, {rate:,.0f}/s{left}, {self._drops:,} dropped"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
