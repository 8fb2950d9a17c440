"""Saving beside training: the state is copied to memory while training waits, and written by a thread while it goes on.

At most one checkpoint is being written; the next save waits for it, and so does whatever ends the run. What came of it
is told at the next step boundary. A full or failing disk is no reason to stop: the older checkpoints are intact, an
alert says so, and the next save that is due tries again. Anything else that goes wrong is a mistake of ours and ends
the run.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from train.checkpoints.writing import CheckpointWriter, Snapshot


@dataclass(frozen=True)
class SaveResult:
    """What came of a save."""

    step: int
    size: int  # bytes of the state
    waited: float = 0.0  # seconds in which training stood still
    seconds: float = 0.0  # from the request to the commit
    error: str | None = None  # why there is no checkpoint
    unpruned: str | None = None  # why old checkpoints were not deleted

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """Kind, message and details for the loggers."""
        details = {"bytes": self.size, "stopped_s": self.waited, "seconds": self.seconds}
        if self.error:
            return "checkpoint_failed", f"step {self.step} is not saved, older checkpoints are intact: {self.error}", {}
        message = f"step-{self.step:08d}, {self.size / 1e6:.1f} MB: training waited {self.waited:.2f} s, "
        message += f"on the disk after {self.seconds:.2f} s"
        if self.unpruned:
            return "checkpoint_failed", f"{message}; old ones could not be deleted: {self.unpruned}", details
        return "checkpoint", message, details


class AsyncCheckpointer:
    """Hands snapshots to the writer, in a thread if `asynchronous`. Used by the leading rank alone."""

    def __init__(self, writer: CheckpointWriter, asynchronous: bool):
        """Nothing is under way."""
        self.writer = writer
        self.asynchronous = asynchronous
        self.failed_step: int | None = None  # of the last save, if it failed
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[SaveResult] | None = None
        self._waited = 0.0

    def begin(self, snapshot: Snapshot, began: float) -> None:
        """Write `snapshot`; training stood still since `began` (`time.perf_counter`). Nothing may be under way."""
        assert self._running is None, "one checkpoint at a time; `finished` comes first"
        self._running = self._pool.submit(self._write, snapshot, began)
        if not self.asynchronous:
            self._running.exception()  # waits; what went wrong is raised by `finished`
        self._waited = time.perf_counter() - began

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is being written, also while `finished` waits for it; from any thread."""
        running = self._running
        return running is not None and not running.done()

    def finished(self, wait: bool = False) -> SaveResult | None:
        """What came of the save under way, once: None while it runs, unless told to `wait`, or if there is none."""
        running = self._running
        if running is None or not (wait or running.done()):
            return None
        try:
            outcome = running.result()
        finally:
            self._running = None
        self.failed_step = outcome.step if outcome.error else None
        return SaveResult(**{**vars(outcome), "waited": self._waited})

    def _write(self, snapshot: Snapshot, began: float) -> SaveResult:
        """What the thread does."""
        try:
            folder = self.writer.write(snapshot)
            size = sum(file.stat().st_size for file in folder.iterdir())
        except OSError as error:
            return SaveResult(snapshot.step, snapshot.nbytes, error=str(error))
        seconds, unpruned = time.perf_counter() - began, None
        try:
            self.writer.prune(snapshot.step)
        except OSError as error:
            unpruned = str(error)
        return SaveResult(snapshot.step, size, seconds=seconds, unpruned=unpruned)
