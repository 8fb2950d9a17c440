"""Progress: a bar on a terminal, nothing or a line every few seconds in a log file. Every bar is made here."""

import re
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

LOG_SECONDS = 10.0
Item = TypeVar("Item")


def progress_bar(
    items: Iterable[Item] | None = None,
    *,
    name: str,
    unit: str,
    total: int | None = None,
    keep: bool = True,
    position: int = 0,
    initial: int = 0,
) -> "tqdm[Item]":
    """A bar over `items`, or one that is advanced by `update`; disabled where stderr is no terminal.

    `total` is needed where `items` do not know their length; without `keep` the bar is erased at the end.
    `position` counts lines when several processes show bars, `initial` is where the count starts.
    """
    bar: tqdm[Any] = _Bar(
        items,
        desc=name,
        unit=f" {unit}",
        total=total,
        leave=keep,
        position=position,
        initial=initial,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
    return bar


class _Bar(tqdm):  # type: ignore[type-arg]
    """tqdm puts the unit's blank also behind "s/" where one takes over a second: "1.59s/ items"."""

    @staticmethod
    def format_meter(*args: Any, **values: Any) -> str:
        """The bar with "1.59 s/items"."""
        return re.sub(r"(\d)s/ ", r"\1 s/", tqdm.format_meter(*args, **values))


def print_above_bar(text: str, stream: TextIO | None = None) -> None:
    """Print a line to `stream` (default: stderr) without breaking a bar that is shown on the terminal."""
    stream = stream or sys.stderr
    tqdm.write(text, file=stream)
    stream.flush()


def log_line(text: str, stream: TextIO | None = None) -> None:
    """`print_above_bar` with the time before the text, for lines of a log that is read later."""
    print_above_bar(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}", stream)


class Progress:
    """Counts records (or another `unit`) of one source with rate, remaining time and drops; `total` may be unknown.

    `lost` is the word for records that are counted as drops.

    with Progress("imagenet", 1_281_167) as progress:
        progress.add(1000, drops=2)
    """

    def __init__(self, name: str, total: int | None, unit: str = "records", lost: str = "dropped") -> None:
        self._name, self._total, self._unit, self._lost = name, total, unit, lost
        self._done = self._drops = 0
        self._start = self._last = time.monotonic()
        self._bar: tqdm[object] = progress_bar(name=name, unit=unit, total=total)

    def add(self, records: int, drops: int) -> None:
        """`records` more are done, of which `drops` were dropped."""
        self._done += records
        self._drops += drops
        if not self._bar.disable:
            self._bar.set_postfix({self._lost: self._drops}, refresh=False)
            self._bar.update(records)
        elif time.monotonic() - self._last > LOG_SECONDS:
            self._last = time.monotonic()
            log_line(self._line())

    def _line(self) -> str:
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        total = f" of {self._total:,}" if self._total is not None else ""
        left = f", {(self._total - self._done) / rate / 60:.1f} min left" if self._total and rate else ""
        return f"{self._name}: {self._done:,}{total} {self._unit}, {rate:,.0f}/s{left}, {self._drops:,} {self._lost}"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
