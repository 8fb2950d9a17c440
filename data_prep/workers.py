"""Building one source by several processes, on one machine or on many: worker i of n owns shards i, i + n, i + 2n, ...

Processes never communicate with each other, only with the one that started them; machines share the folder alone.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from configs.errors import DataError
from configs.shard_dir import ShardDir
from data_prep.image_notes import NoteBook
from data_prep.processes import ProcessExit, Send, WorkerProcesses
from data_prep.records import Record, ShardChunks, expected_count
from data_prep.sample import Drop, Source
from data_prep.shard_writer import write_shard
from data_prep.sidecar import Recipe, Sidecar, finished_shard
from data_prep.train_test_check import SourceContent

MAX_DROPS_IN_A_ROW = 100
REPORT_EVERY = 50  # records and
REPORT_SECONDS = 0.2  # least seconds between two messages of a process

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The build of one source; with `check_only` every record is validated and nothing is written."""

    folder: ShardDir
    recipe: Recipe
    source: Source
    rebuild: bool = False
    check_only: bool = False


@dataclass(slots=True)
class Outcome:
    """What a worker did: records of the whole source, shards written and kept, and its own drops."""

    records: int = 0
    written: int = 0
    kept: int = 0
    drops: list[Drop] = field(default_factory=list)
    notes: NoteBook = field(default_factory=NoteBook)
    checked: list[tuple[str, int, int]] = field(default_factory=list)
    """With `check_only`: id, class index and `image_hash` of every valid record."""

    def content(self, name: str, class_names: Sequence[str]) -> SourceContent:
        """What a check of the source `name` saw."""
        ids, labels, hashes = zip(*self.checked, strict=True) if self.checked else ((), (), ())
        classes = np.array([*class_names, ""], dtype=object)[np.array(labels, dtype=np.int64)]
        counts = dict.fromkeys(class_names, 0) | Counter(filter(None, classes.tolist()))
        return SourceContent(name, counts, np.array(hashes, dtype=np.uint64), classes, lambda number: ids[number])


@dataclass(slots=True)
class _BuildProgress:
    """Called for every record: reports counts, and stops a build that drops one record after another."""

    source: str
    report: Report
    records: int = 0
    dropped: int = 0
    in_a_row: int = 0
    next_report: float = 0.0

    def __call__(self, drop: Drop | None) -> None:
        self.records += 1
        self.dropped += drop is not None
        self.in_a_row = self.in_a_row + 1 if drop is not None else 0
        if drop is not None and self.in_a_row >= MAX_DROPS_IN_A_ROW:
            raise DataError(
                f"source {self.source}: {MAX_DROPS_IN_A_ROW} records in a row were dropped, the last one"
                f" {drop.name} ({drop.reason}; {drop.file or 'no file'}); is the path of the source right?"
            )
        if self.records >= REPORT_EVERY and time.monotonic() >= self.next_report:
            self.flush()
            self.next_report = time.monotonic() + REPORT_SECONDS

    def flush(self) -> None:
        self.report(self.records, self.dropped)
        self.records = self.dropped = 0


def build_part(job: Job, part: int, parts: int, report: Report) -> Outcome:
    """Build the shards of worker `part` of `parts` in this process; calls `report(records, drops)` now and then."""
    outcome = Outcome()
    progress = _BuildProgress(job.recipe.source, report)
    runs = ShardChunks(job.source, job.recipe.samples_per_shard, part, parts)
    for number, records in runs:
        if job.check_only:
            for record in records:
                seen = job.recipe.validate(record)
                if isinstance(seen, Drop):
                    outcome.drops.append(seen)
                else:
                    outcome.checked.append((seen.id, seen.label, seen.image_hash))
                    outcome.notes.add(seen.notes, record.id)
                progress(seen if isinstance(seen, Drop) else None)
            continue
        sidecar = finished_shard(job.folder, number, records, job.recipe, rebuild=job.rebuild)
        if sidecar is not None:
            outcome.kept += 1
            progress.report(len(records), len(sidecar.drops))
        else:
            sidecar = _write(job, number, records, progress)
            outcome.written += 1
        outcome.drops += sidecar.drops
    progress.flush()
    outcome.records = runs.total
    return outcome


def count_shards(job: Job) -> Outcome:
    """The outcome of a worker that kept every shard, without reading any: how many records the source has."""
    records = expected_count(job.source)
    total = sum(1 for _ in job.source.records) if records is None else records
    return Outcome(records=total, kept=-(-total // job.recipe.samples_per_shard))


def _write(job: Job, number: int, records: list[Record], progress: _BuildProgress) -> Sidecar:
    try:
        return write_shard(job.folder, number, records, job.recipe, progress)
    except BrokenPipeError:  # the process that reads the progress is gone
        raise
    except OSError as error:
        raise DataError(
            f"{job.folder.shard(number)} cannot be written ({error.strerror}); make room, or set data.shards to another"
            f" disk, and run the same command again: finished shards are kept"
        ) from error


def build_parts(job: Job, parts: list[int], of: int, report: Report) -> Outcome:
    """Build the shards of all workers in `parts` (of `of` workers), each in its own process if there are several.

    Raises the first `DataError` of any of them, and `DataError` if one was killed; the others are stopped.
    """
    if len(parts) == 1:
        return build_part(job, parts[0], of, report)
    total = Outcome()
    # Forked: the source, once read, is shared.
    with WorkerProcesses(partial(_send_part, job, of), parts, "fork") as workers:
        for _, message in workers.messages():
            if isinstance(message, DataError):
                raise message
            if isinstance(message, Outcome):
                total.records = message.records
                total.written += message.written
                total.kept += message.kept
                total.drops += message.drops
                total.notes.merge(message.notes.notes())
                total.checked += message.checked
            elif isinstance(message, ProcessExit):
                _check_ended(message)
            elif isinstance(message, tuple):
                report(*message)
    return total


def _send_part(job: Job, of: int, part: int, send: Send) -> None:
    """Send (records, drops) now and then, and at the end the outcome or the error."""
    try:
        send(build_part(job, part, of, lambda records, drops: send((records, drops))))
    except DataError as error:
        send(DataError(str(error)))


def _check_ended(ended: ProcessExit) -> None:
    if ended.code:
        raise DataError(
            f"a build process ended with code {ended.code} (negative: killed by that signal; -9 is often a lack of"
            f" memory); run the same command again: finished shards are kept"
        )
