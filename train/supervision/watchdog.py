"""Ends a run that hangs or has lost a rank, and names the rank, its step and its stage. One thread per rank.

A run without progress for `train.step_timeout` seconds counts as hanging: the stacks of all threads are written to
runs/NAME/hang-rank-N.txt, the stuck rank is named (and killed if it is on this host), and the process ends immediately
with `EXIT_CODE`. The same happens a few seconds after a rank on this host has died, because collectives on a GPU would
wait for their timeout. If the interpreter itself is stuck, Python's fault handler, which does not need it, writes the
stacks to stderr and ends the process.
"""

import contextlib
import faulthandler
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from configs.errors import first_line
from configs.run_dir import RunDir
from train.supervision.heartbeats import Heartbeat, HeartbeatStore, describe, in_collective, stuck_ranks
from train.supervision.progress import Progress

EXIT_CODE = 4  # a rank hangs or died
NOTICE = 2.0  # seconds in which a rank that failed looks for one that died before it
GRACE = 5.0  # seconds from a rank's death to the end of the others that did not notice; longer for one that writes
SLACK = 3.0  # seconds the thread may be late before the fault handler acts in its place
STDERR = 2  # the descriptor: what Python calls stderr may have been replaced
STANDSTILL = 2.0  # seconds the thread must be late for the process to have stood still


@dataclass
class Watchdog:
    """Watches `progress`; `log` receives (kind, message) of an event, from the watchdog's thread."""

    run: RunDir
    heartbeats: HeartbeatStore
    progress: Progress
    timeout: float
    """Seconds."""
    log: Callable[[str, str], None]
    is_saving: Callable[[], bool] = lambda: False
    """Whether a checkpoint is being written: it is complete in memory, and lost if the process ends."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs. An error that leaves it ends the process, after saying where this rank was."""
        ended = threading.Event()
        self.run.root.mkdir(parents=True, exist_ok=True)
        self.run.hang(self.heartbeats.rank).unlink(missing_ok=True)  # of an earlier start
        threading.Thread(target=self._watch, args=(ended,), name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            self.heartbeats.leave()
            faulthandler.cancel_dump_traceback_later()

    def _watch(self, ended: threading.Event) -> None:
        period = min(1.0, self.timeout / 10)
        before, lost_since = time.monotonic(), None
        while not ended.wait(period):
            now = time.monotonic()
            if now - before > period + STANDSTILL:
                self.progress.suspended += now - before - period
            before = now
            faulthandler.dump_traceback_later(self.timeout + SLACK, exit=True, file=STDERR)
            if self.progress.age() > self.timeout:
                self._end_process(self._hang(), hangs=True)
            if not any(peer.gone for peer in self.heartbeats.peers):
                lost_since = None
            elif lost_since is None:
                lost_since = now
            elif now - lost_since > self.grace and not ended.is_set():
                self._end_process(self._loss(), hangs=False)

    @property
    def grace(self) -> float:
        """Seconds after a rank's death at which this one ends: a checkpoint under way has `timeout` to be finished."""
        return max(GRACE, self.timeout) if self.is_saving() else GRACE

    def _place(self) -> str:
        position = self.progress.position
        return f"rank {self.heartbeats.rank}, after step {position.step}, stage {position.stage}"

    def _hang(self) -> str:
        return f"{self._place()}: no progress for {self.progress.age():.0f} s (train.step_timeout {self.timeout:g})"

    def _loss(self) -> str:
        return f"{self._place()}: {self.lost()}"

    def fail(self, error: Exception) -> NoReturn:
        """Say where this rank was when `error` ended its run, and end its process without waiting for anything."""
        traceback.print_exception(error)
        noticed = time.monotonic() + NOTICE
        while not self.lost() and time.monotonic() < noticed and self.heartbeats.size > 1:
            time.sleep(0.1)  # of a rank that was killed, the broken connection is seen before its end is
        text = f"{self._place()}: {type(error).__name__}: {_first_words(error)}"
        text += f"; {self.lost()}" if self.lost() else ""
        self.log("failed", text)
        with contextlib.suppress(OSError):
            print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(EXIT_CODE if self.lost() else 1)

    def lost(self) -> str:
        """The ranks of this host that have died, in words; empty if none has."""
        gone = [str(peer) for peer in self.heartbeats.peers if peer.gone]
        return f"{', '.join(gone)} has died" if gone else ""

    def _end_process(self, message: str, hangs: bool) -> None:
        """Report the stuck ranks, after a hang with the stacks in a file, then end this process even if that fails."""
        try:
            self._report_stuck_ranks(message, self._write_stacks() if hangs else None)
        finally:
            os._exit(EXIT_CODE)

    def _write_stacks(self) -> str:
        """Where the stacks of all threads are now."""
        path = self.run.hang(self.heartbeats.rank)
        try:
            with open(path, "w", opener=_private, encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:  # a full disk
            faulthandler.dump_traceback(STDERR, all_threads=True)
            return f"this output ({path} could not be written: {error.strerror})"
        return str(path)

    def _report_stuck_ranks(self, message: str, stacks: str | None) -> None:
        stuck = stuck_ranks(self.heartbeats.latest()) or self._this_rank()
        names = "; ".join(
            f"{self.heartbeats.peers[heartbeat.rank]} is stuck, {describe(heartbeat)}" for heartbeat in stuck
        )
        text = f"{message}; {names or 'all ranks are in the same stage'}" + (f"; stacks in {stacks}" if stacks else "")
        self.log("hang", text)
        with contextlib.suppress(OSError):
            print(f"error: {text}", file=sys.stderr, flush=True)
        if self.heartbeats.rank == 0 and self.heartbeats.size > 1:
            time.sleep(1.0)  # rank 0 holds the store in which the others look up who is stuck
        for heartbeat in stuck:
            peer = self.heartbeats.peers[heartbeat.rank]
            here = peer.host == self.heartbeats.peers[self.heartbeats.rank].host
            if here and heartbeat.rank != self.heartbeats.rank and peer.process.is_alive:
                with contextlib.suppress(ProcessLookupError):  # another rank was quicker
                    os.kill(peer.process.pid, signal.SIGKILL)  # stopped, it would outlive the launcher's SIGTERM

    def _this_rank(self) -> list[Heartbeat]:
        """This rank alone, unless it waits for others."""
        position = self.progress.position
        if self.heartbeats.size > 1 and (in_collective() or position.stage in ("before the step", "sum of losses")):
            return []
        return [Heartbeat(self.heartbeats.rank, position.step, position.stage, False, 0.0)]


def _first_words(error: Exception, most: int = 200) -> str:
    """An error's message, without the source line of gloo with which it begins."""
    said = re.sub(r"^\[[^\]]*:\d+\] ", "", first_line(error))
    return said if len(said) <= most else f"{said[:most]}..."


def _private(path: str, flags: int) -> int:
    """Opens a file that only the run's owner may read."""
    return os.open(path, flags, 0o600)
