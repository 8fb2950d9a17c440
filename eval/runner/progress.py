"""Progress of an evaluation: a bar with running accuracy on a terminal, a line now and then in a log file.

Items are evaluated in their source's order, which is mostly by class: the accuracy so far is that of the first classes.
"""

import time
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from data_prep.progress import log_line, progress_bar
from eval.types import FailedItem

LOG_SECONDS = 30.0
SHOWN_FAILURES = 5


class EvalProgress:
    """Counts answers with rate, remaining time and the accuracy so far; `total` items, `worker` places the bar.

    with EvalProgress("open_world export", 50_000, worker=0) as progress:
        progress.add(1)
    """

    def __init__(self, name: str, total: int, worker: int):
        self._name, self._total, self._worker = name, total, worker
        self._answers = self._judged = self._counted = self._old = self._failed = 0
        self._points = 0.0
        self._start = self._last = time.monotonic()
        self._bar: tqdm[object] = progress_bar(name=name, unit="items", total=total, position=worker)

    def add(self, points: float | None, *, old: bool = False, counted: bool = True) -> None:
        """One more answer with its points (None: no answer); `old` was there before and does not count for the rate.

        One that is not `counted` is left out of the accuracy, as the report does.
        """
        self._answers += 1
        if not counted:
            points = None
        self._counted += counted
        self._points += points or 0.0
        self._judged += points is not None
        self._old += old
        if not self._bar.disable:
            self._bar.set_postfix_str(self._accuracy(), refresh=False)
            if old:
                self._bar.initial += 1
            self._bar.update(1)
        elif time.monotonic() - self._last > LOG_SECONDS:
            self._last = time.monotonic()
            log_line(self.line())

    def add_failures(self, failures: Sequence[FailedItem]) -> None:
        """Items that failed; the first few are named at once."""
        for failure in failures:
            self._failed += 1
            if self._failed <= SHOWN_FAILURES:
                log_line(f"{self._name}: failed: {failure.id}: {failure.reason}")
        self._bar.update(len(failures))

    def line(self) -> str:
        """The state in one line."""
        rate = (self._answers - self._old) / max(time.monotonic() - self._start, 1e-9)
        rest = self._total - self._answers - self._failed
        left = f", {rest / rate / 60:.1f} min left" if rate and rest else ""
        failed = f", {self._failed:,} failed" if self._failed else ""
        who = f" (worker {self._worker})" if self._worker else ""
        answered = f"{self._answers:,} of {self._total:,} answered"
        return f"{self._name}{who}: {answered}, {rate:.1f}/s{left}, {self._accuracy()}{failed}"

    def _accuracy(self) -> str:
        part = " of those answered so far" if self._answers + self._failed < self._total else ""
        return f"accuracy {self._points / self._counted:.1%}{part}" if self._judged else "nothing scored yet"

    def __enter__(self) -> "EvalProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        in_log = self._bar.disable  # a closed bar is disabled too
        self._bar.close()
        if in_log and kind is None and (self._answers > self._old or self._failed):
            log_line(self.line())
