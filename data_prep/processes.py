"""Processes on one machine. None of them outlives the program that started it, not even if that program is killed.

    parallel_map(function, items, processes)    many short tasks, results in order: a pool of concurrent.futures
    WorkerProcesses(target, tasks, method)      one long task per process, which sends messages; exit codes are kept

A pool of concurrent.futures does not report which process was killed, nor how; a build and an evaluation name it,
hence the second form.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, TypeVar

from configs.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")
Send = Callable[[object], None]

_function: list[Callable[[Any], Any]] = []  # of a pool's process: it is inherited once, not pickled with every task


def parallel_map(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    processes: int,
    setup: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """`map(function, tasks)` by forked processes, each of which calls `setup` first; a single process works here.

    Whatever `function` holds is shared with the processes, not copied. Raises `DataError` if a process was killed.
    """
    if processes <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(processes, context, initializer=_set_up, initargs=(function, setup)) as pool:
            yield from pool.map(_call, tasks)
    except BrokenProcessPool as error:
        raise DataError("a process was killed, often for lack of memory; run the same command again") from error


def _set_up(function: Callable[[Any], Any], setup: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    end_with_parent()
    setup()
    _function[:] = [function]


def _call(task: Any) -> Any:
    return _function[0](task)


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """The last message of a process; `code` is negative if a signal killed it."""

    code: int


class WorkerProcesses:
    """Processes that each run `target(task, send)`, one per task; leaving the block ends those that still run.

    with WorkerProcesses(target, tasks, "fork") as workers:
        for number, message in workers.messages(): ...
    """

    def __init__(self, target: Callable[[Task, Send], None], tasks: Sequence[Task], method: str):
        """`method` is multiprocessing's: `fork` shares memory, `spawn` is needed where a GPU is in use."""
        self._target, self._tasks, self._method = target, tasks, method
        self._processes: dict[Connection, tuple[int, BaseProcess]] = {}

    def __enter__(self) -> "WorkerProcesses":
        context = multiprocessing.get_context(self._method)
        for number, task in enumerate(self._tasks):
            receiver, sender = context.Pipe(duplex=False)
            inherited = [*self._processes, receiver] if self._method == "fork" else []
            process = context.Process(  # type: ignore[attr-defined]
                target=_run, args=(self._target, task, sender, inherited), daemon=True
            )
            with _ignoring_interrupts():
                process.start()
            sender.close()
            self._processes[receiver] = (number, process)
        return self

    def messages(self) -> Iterator[tuple[int, object]]:
        """(number of the task, message) as messages arrive, until every process has sent its `ProcessExit`."""
        waiting = dict(self._processes)
        while waiting:
            for ready in wait(list(waiting)):
                assert isinstance(ready, Connection)
                number, process = waiting[ready]
                try:
                    yield number, ready.recv()
                except EOFError:
                    process.join()
                    del waiting[ready]
                    yield number, ProcessExit(process.exitcode or 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in self._processes.values():
            process.terminate()
            process.join()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes that are started within it ignore Ctrl-C from their first moment: the one that starts them ends them.

    A terminal sends Ctrl-C to all of them, and each would print a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # only this one may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _run(target: Callable[[Any, Send], None], task: object, sender: Connection, inherited: list[Connection]) -> None:
    end_with_parent()
    for connection in inherited:  # else a pipe stays open after the process that reads it is gone
        connection.close()
    target(task, sender.send)


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however it ended.

    multiprocessing ends daemons when their parent exits, and leaves them running when it is killed.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
