"""Asynchronous checkpoints: training waits while the state is copied to memory; a thread writes it while training runs.

At most one checkpoint is written at a time; the next save waits for it, and so does the end of the run. Its result is
logged at the next step boundary. A full or failing disk does not stop the run: older checkpoints are intact, an event
reports the failure, and the next save tries again. Any other exception is a bug and ends the run.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from configs.run_dir import step_name
from data_prep.byte_size import size as in_words
from train.checkpoints.writing import CheckpointWriter, Snapshot


@dataclass(frozen=True)
class SaveResult:
    """The result of a save."""

    step: int
    size: int  # bytes of the state
    waited: float = 0.0  # seconds in which training waited
    seconds: float = 0.0  # from the start of the save to its commit
    error: str | None = None  # why there is no checkpoint
    prune_error: str | None = None  # why old checkpoints were not deleted

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """Kind, message and details for the loggers."""
        details = {"bytes": self.size, "stopped_s": self.waited, "seconds": self.seconds}
        if self.error:
            return (
                "checkpoint_failed",
                f"step {self.step} was not saved, older ones are intact: {self.error}",
                {},
            )
        message = f"{step_name(self.step)}, {in_words(self.size)}: training waited {self.waited:.2f} s, "
        message += f"on disk after {self.seconds:.2f} s"
        if self.prune_error:
            return "checkpoint_failed", f"{message}; old ones could not be deleted: {self.prune_error}", details
        return "checkpoint", message, details


class AsyncCheckpointer:
    """Passes snapshots to the writer, in a thread if `asynchronous`. Used by the main rank only."""

    def __init__(self, writer: CheckpointWriter, asynchronous: bool):
        """No save is running yet."""
        self.writer = writer
        self.asynchronous = asynchronous
        self.failed_step: int | None = None  # of the last save, if it failed
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[SaveResult] | None = None
        self._waited = 0.0

    def begin(self, snapshot: Snapshot, began: float) -> None:
        """Start writing `snapshot`; training has waited since `began` (`time.perf_counter`). No save may be running."""
        assert self._running is None, "one checkpoint at a time; `finished` comes first"
        self._running = self._pool.submit(self._write, snapshot, began)
        if not self.asynchronous:
            self._running.exception()  # waits; `finished` raises the exception
        self._waited = time.perf_counter() - began

    @property
    def is_writing(self) -> bool:
        """True while a checkpoint is being written, also while `finished` waits for it. Callable from any thread."""
        running = self._running
        return running is not None and not running.done()

    def finished(self, wait: bool = False) -> SaveResult | None:
        """The result of the running save, returned once. None while it runs, unless `wait`, and if there is none."""
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
        """Write and prune, in the thread."""
        try:
            folder = self.writer.write(snapshot)
            size = sum(file.stat().st_size for file in folder.iterdir())
        except OSError as error:
            return SaveResult(snapshot.step, snapshot.nbytes, error=str(error))
        seconds, prune_error = time.perf_counter() - began, None
        try:
            self.writer.prune(snapshot.step, self.writer.best_step(snapshot))
        except OSError as error:
            prune_error = str(error)
        return SaveResult(snapshot.step, size, seconds=seconds, prune_error=prune_error)
