"""Reading in the order of training: worker processes read ahead, micro-batches come out as they were partitioned."""

import ctypes
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from configs.errors import DataError
from train.data.order import PADDING
from train.data.packing import MicroBatches, StepOrder
from train.data.sources import PositionSet, SourceSet
from train.supervision import signals

_PR_SET_PDEATHSIG = 1  # of Linux: the signal this process gets when its parent is gone

ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]
E = TypeVar("E")
B = TypeVar("B")


def read_steps(
    order: StepOrder, dataset: PositionSet[E], collate: Callable[[list[E]], B], start: int, rank: int, workers: int
) -> Iterator[list[B]]:
    """The micro-batches of `rank` for every step from data step `start` on, read by `workers` processes.

    Training reads examples this way and `train.tools.order` ids: one code path, so what the one prints the other reads.
    """
    sampler = _MicroBatchSampler(order, start, rank)
    ahead = 2 * order.partitioner.plan.accumulation
    with warnings.catch_warnings(), _own_handler_of_dead_children():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # than cores: a setting says so
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=max(2, ahead) if workers else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_live_with_the_rank,
        )
        batches = iter(loader)
    try:
        while True:
            first = _next(batches, sampler, dataset.sources)
            micro_batches = sampler.steps[0]  # noted before the first of them could be read
            done = [first, *(_next(batches, sampler, dataset.sources) for _ in micro_batches[1:])]
            sampler.steps.popleft()
            yield done
    finally:  # also after an error, whose traceback would keep the processes: they ignore Python's SIGTERM at exit
        if isinstance(batches, _MultiProcessingDataLoaderIter):
            batches._shutdown_workers()
            for process in batches._workers:  # one that reads for ever has not heard of it
                process.kill()
                process.join()


def _next(batches: Iterator[B], sampler: "_MicroBatchSampler", sources: SourceSet) -> B:
    """The next micro-batch. Raises `DataError` that names the rank and the samples when a process failed."""
    try:
        return next(batches)
    except DataError as error:  # torch puts a worker's traceback before the message
        kind = type(error)
        message = str(error).strip().rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2]
        raise DataError(f"rank {sampler.rank}: {message}") from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or str(error).startswith(
            "Caught"
        ):  # the worker is alive and raised an exception
            raise
        positions = [p for micro_batch in sampler.steps[0] for p in micro_batch if p != PADDING]
        names = ", ".join(sources.record(position).id for position in positions)
        raise DataError(
            f"rank {sampler.rank}: a data-loading process died, often for lack of memory (lower train.workers) or over "
            f"an image that makes a decoder crash; it was reading, or reading ahead of, {names}"
        ) from error


@contextmanager
def _own_handler_of_dead_children() -> Iterator[None]:
    """Remove the SIGCHLD handler that torch's DataLoader installs; it raises in unrelated code when a worker dies.

    Without it, `next` raises when the batch of the dead worker is missing; there the samples it was reading are known.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if handler is None else handler)


def _live_with_the_rank(worker: int) -> None:  # noqa: ARG001 - the signature is torch's
    """Tie the lifetime of this worker process to its rank: ignore signals, and die when the rank dies.

    SLURM sends SIGTERM to every process of a job; a worker killed by it would stop the rank before its checkpoint is
    written. torch's workers notice a killed rank within 5 s; with PR_SET_PDEATHSIG Linux kills them at once.
    """
    signals.ignore()
    sys.excepthook = without_broken_connections(sys.excepthook)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def without_broken_connections(usual: ExceptHook) -> ExceptHook:
    """`usual`, but silent about connections that end in another thread than the main one.

    A thread of multiprocessing hands batches over to the rank. A rank that stops while it receives one closes the
    connection; the thread would print a traceback of that.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        in_thread = threading.current_thread() is not threading.main_thread()
        if not (in_thread and isinstance(error, ConnectionError | EOFError)):
            usual(kind, error, traceback)

    return hook


@dataclass
class _MicroBatchSampler:
    """The micro-batches of all steps in a row: what torch's DataLoader calls a batch sampler."""

    order: StepOrder
    start: int
    rank: int
    steps: deque[MicroBatches] = field(default_factory=deque)  # not yet delivered

    def __iter__(self) -> Iterator[list[int]]:
        for micro_batches in self.order.positions(self.start, self.rank):
            self.steps.append(micro_batches)
            yield from micro_batches
