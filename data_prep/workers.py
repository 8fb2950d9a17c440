"""One source built by several processes, of one machine or of many: worker i of n owns shards i, i + n, i + 2n, ...

Processes never talk to each other, only to the one that started them; what connects machines is the folder.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from configs.errors import DataError
from configs.shard_dir import ShardDir
from data_prep.records import Record, Runs, expected_count
from data_prep.sample import Drop, Source
from data_prep.shard_writer import write_shard
from data_prep.sidecar import Recipe, Sidecar, finished_shard

MAX_DROPS_IN_A_ROW = 100
REPORT_EVERY = 50  # records and
REPORT_SECONDS = 0.2  # seconds that lie at least between two messages of a process

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done with one source; `check_only` examines every record and writes nothing."""

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


@dataclass(slots=True)
class _Watch:
    """Hears of every record: passes counts on, and stops a build in which nothing is any good."""

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
                f" {drop.id} ({drop.reason}; {drop.file or 'no file'}); is the path of the source right?"
            )
        if self.records >= REPORT_EVERY and time.monotonic() >= self.next_report:
            self.flush()
            self.next_report = time.monotonic() + REPORT_SECONDS

    def flush(self) -> None:
        self.report(self.records, self.dropped)
        self.records = self.dropped = 0


def do_part(job: Job, part: int, parts: int, report: Report) -> Outcome:
    """Do the shards of worker `part` of `parts` in this process; `report(records, drops)` hears of progress."""
    outcome = Outcome()
    watch = _Watch(job.recipe.source, report)
    runs = Runs(job.source, job.recipe.samples_per_shard, part, parts)
    for number, records in runs:
        if job.check_only:
            for record in records:
                seen = job.recipe.examine(record)
                drop = seen if isinstance(seen, Drop) else None
                outcome.drops += [drop] if drop else []
                watch(drop)
            continue
        sidecar = finished_shard(job.folder, number, records, job.recipe, rebuild=job.rebuild)
        if sidecar is not None:
            outcome.kept += 1
            watch.report(len(records), len(sidecar.drops))
        else:
            sidecar = _write(job, number, records, watch)
            outcome.written += 1
        outcome.drops += sidecar.drops
    watch.flush()
    outcome.records = runs.total
    return outcome


def count_shards(job: Job) -> Outcome:
    """As if every shard had been kept, without looking at any: how many records the source has."""
    records = expected_count(job.source)
    total = sum(1 for _ in job.source.records) if records is None else records
    return Outcome(records=total, kept=-(-total // job.recipe.samples_per_shard))


def _write(job: Job, number: int, records: list[Record], watch: _Watch) -> Sidecar:
    try:
        return write_shard(job.folder, number, records, job.recipe, watch)
    except BrokenPipeError:  # the process that hears of progress is gone
        raise
    except OSError as error:
        raise DataError(
            f"{job.folder.shard(number)} cannot be written ({error.strerror}); make room, or set data.shards to another"
            f" disk, and run the same command again: finished shards are kept"
        ) from error


def do_parts(job: Job, parts: list[int], of: int, report: Report) -> Outcome:
    """Do the shards of all workers in `parts` (among `of`), each in a process of its own if there are several.

    Raises the first `DataError` of any of them, and `DataError` if one was killed; the others are stopped.
    """
    if len(parts) == 1:
        return do_part(job, parts[0], of, report)
    context = multiprocessing.get_context("fork")  # the source, once read, is shared
    pipes: dict[Connection, ForkProcess] = {}
    try:
        for part in parts:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(job, part, of, sender, [*pipes, receiver]), daemon=True)
            process.start()
            sender.close()
            pipes[receiver] = process
        return _collect(pipes, report)
    finally:
        for process in pipes.values():
            process.terminate()
            process.join()


def _collect(pipes: dict[Connection, ForkProcess], report: Report) -> Outcome:
    whole = Outcome()
    waiting = dict(pipes)
    while waiting:
        for ready in wait(list(waiting)):
            assert isinstance(ready, Connection)
            try:
                message = ready.recv()
            except EOFError:
                waiting[ready].join()
                raise DataError(
                    f"a build process ended with code {waiting[ready].exitcode} (negative: killed by that signal; -9 is"
                    f" often a lack of memory); run the same command again: finished shards are kept"
                ) from None
            if isinstance(message, DataError):
                raise message
            if isinstance(message, Outcome):
                whole.records = message.records
                whole.written += message.written
                whole.kept += message.kept
                whole.drops += message.drops
                del waiting[ready]
            else:
                report(*message)
    return whole


def _child(job: Job, part: int, of: int, sender: Connection, inherited: list[Connection]) -> None:
    for connection in inherited:  # else a pipe stays open when the process that reads it is gone
        connection.close()
    try:
        sender.send(do_part(job, part, of, lambda records, drops: sender.send((records, drops))))
    except DataError as error:
        sender.send(DataError(str(error)))
    except BrokenPipeError:
        return  # the process that started us is gone
