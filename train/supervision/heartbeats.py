"""Heartbeats: every rank publishes its progress once a second, in the background and without collectives.

The store is the key-value store of the process group's rendezvous, on rank 0's node. A thread of each rank writes the
rank's step and stage there, and reads whether a rank must stop, which a rank that waits for data must learn.
When a run hangs, the last heartbeats name the stuck rank. Calls to the store may block while rank 0 does not answer, so
only this thread makes them; other threads read the values it received last.
"""

import contextlib
import datetime
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from train.supervision import signals
from train.supervision.launcher_watch import Process
from train.supervision.progress import STAGES, Progress

PERIOD = 1.0  # seconds between heartbeats
ANSWER = datetime.timedelta(seconds=5)
UNKNOWN = "unknown"  # the stage of a rank 0 that does not answer
SILENT = 10.0  # seconds without a heartbeat after which a rank is reported as silent


@dataclass(frozen=True)
class Heartbeat:
    """A rank's last heartbeat: `age` seconds old, in `stage` of the step after `step`; `waits` in a collective."""

    rank: int
    step: int
    stage: str
    waits: bool
    age: float


@dataclass(frozen=True)
class Peer:
    """Host and process of a rank."""

    rank: int
    host: str
    process: Process

    @classmethod
    def seen_from_here(cls, rank: int, host: str, process: Process) -> "Peer":
        """A rank that has just said where it runs; containers that share a host's name see only their own processes.

        Without the distinction a rank in the next container would count as dead from the first second on.
        """
        hidden = host == socket.gethostname() and not process.is_alive
        return cls(rank, f"{host}, another container" if hidden else host, process)

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, process {self.process.pid})"

    @property
    def gone(self) -> bool:
        """Whether it has ended, which can be seen on this host only."""
        return self.host == socket.gethostname() and not self.process.is_alive


def stuck_ranks(heartbeats: Sequence[Heartbeat]) -> list[Heartbeat]:
    """The ranks that the others wait for: silent ones; those outside a collective while others are in one; the slowest.

    Empty if all ranks are in the same step and stage. On a GPU only waiting in CPU collectives is seen.

    >>> stuck_ranks([Heartbeat(0, 7, "before the step", True, 1), Heartbeat(1, 7, "data", False, 1)])
    [Heartbeat(rank=1, step=7, stage='data', waits=False, age=1)]
    """
    silent = [heartbeat for heartbeat in heartbeats if heartbeat.age > SILENT]
    if silent:
        return silent
    if any(heartbeat.waits for heartbeat in heartbeats) and not all(heartbeat.waits for heartbeat in heartbeats):
        return [heartbeat for heartbeat in heartbeats if not heartbeat.waits]
    positions = [(heartbeat.step, STAGES.index(heartbeat.stage)) for heartbeat in heartbeats]
    behind = [
        heartbeat for heartbeat, position in zip(heartbeats, positions, strict=True) if position == min(positions)
    ]
    return behind if len(behind) < len(heartbeats) else []


@dataclass
class HeartbeatStore:
    """This rank's view of all ranks; `peers` is complete after `join`."""

    rank: int
    size: int
    peers: list[Peer] = field(default_factory=list)
    answered: float = field(default_factory=time.monotonic)  # time of the store's last answer
    report: Callable[[str], None] = print  # called from the thread
    _latest: dict[int, tuple[Any, float]] = field(default_factory=dict)  # what a rank wrote last, and when it was new
    _ended: threading.Event = field(default_factory=threading.Event)
    _silent: set[int] = field(default_factory=set)

    def join(self, progress: Progress) -> None:
        """Exchange hosts and process ids with all ranks, then start the heartbeat thread. Collective."""
        me = Process.of(os.getpid())
        assert me is not None
        self.peers = [Peer(self.rank, socket.gethostname(), me)]
        if self.size == 1:
            return
        store = self._connect()
        store.set(f"peer/{self.rank}", json.dumps([socket.gethostname(), me.pid, me.start]))
        if self.rank == 0:  # reads all ranks' values once, so that each of many ranks reads one value
            found = [json.loads(store.get(f"peer/{rank}")) for rank in range(self.size)]
            store.set("peers", json.dumps(found))
            store.set("stop", "")
        store.wait(["peers"], datetime.timedelta(minutes=10))
        roster = json.loads(store.get("peers"))
        self.peers = [
            Peer.seen_from_here(rank, host, Process(pid, start)) for rank, (host, pid, start) in enumerate(roster)
        ]
        first = [0.0, progress.position.step, "start", False]  # until a rank writes
        self._latest = {peer.rank: (first, time.monotonic()) for peer in self.peers}
        threading.Thread(target=self._run, args=(store, progress), name="heartbeats", daemon=True).start()

    def _connect(self) -> Store:
        """A separate connection: the process group's may be busy."""
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, is_master=False, timeout=datetime.timedelta(minutes=10))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(f"heartbeats/{attempt}", store)

    def name(self, rank: int) -> str:
        """The rank, and where it runs once `join` has returned."""
        return str(self.peers[rank]) if self.peers else f"rank {rank}"

    def leave(self) -> None:
        """Stop the heartbeats."""
        self._ended.set()

    def _run(self, store: Store, progress: Progress) -> None:
        store.set_timeout(ANSWER)
        requested = False
        while not self._ended.wait(PERIOD):
            position = progress.position
            with contextlib.suppress(RuntimeError):  # no answer: `answered` says since when
                text = json.dumps([time.time(), position.step, position.stage, in_collective()])
                store.set(f"heartbeat/{self.rank}", text)
                if signals.stop_requested() and not requested:
                    store.set("stop", f"rank {self.rank} was asked to stop: {signals.reason()}")
                    requested = True
                elif (reason := store.get("stop").decode()) and not signals.stop_requested():
                    signals.request(reason)
                if self.rank == 0 or progress.age() > SILENT / 2:  # others only when they wait for something
                    self._read(store)
                self.answered = time.monotonic()
            self._report_silent_ranks()

    def _read(self, store: Store) -> None:
        now = time.monotonic()
        for peer in self.peers:
            key = f"heartbeat/{peer.rank}"
            if store.check([key]):
                heartbeat = json.loads(store.get(key))
                if peer.rank not in self._latest or self._latest[peer.rank][0] != heartbeat:
                    self._latest[peer.rank] = (heartbeat, now)

    def _report_silent_ranks(self) -> None:
        """Report each rank once when it becomes silent, and once when it is back."""
        known = [
            heartbeat for heartbeat in self.latest() if self.rank == 0 or heartbeat.stage == UNKNOWN
        ]  # others read now and then
        silent = {
            heartbeat.rank: heartbeat for heartbeat in known if heartbeat.age > SILENT and heartbeat.rank != self.rank
        }
        for rank in silent.keys() - self._silent:
            self.report(f"{self.peers[rank]} sends no heartbeat; {describe(silent[rank])}")
        for rank in self._silent - silent.keys():
            self.report(f"{self.peers[rank]} is back")
        self._silent = set(silent)

    def latest(self) -> list[Heartbeat]:
        """The last heartbeats this rank received; only rank 0's if the store, which runs there, does not answer."""
        now = time.monotonic()
        if self.rank != 0 and now - self.answered > SILENT:
            return [Heartbeat(0, -1, UNKNOWN, False, now - self.answered)]
        return [
            Heartbeat(rank, heartbeat[1], heartbeat[2], heartbeat[3], now - new)
            for rank, (heartbeat, new) in sorted(self._latest.items())
        ]


def in_collective() -> bool:
    """Whether this process' main thread waits in a call of torch.distributed."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.endswith("distributed_c10d.py"):
            return True
        frame = frame.f_back
    return False


def describe(heartbeat: Heartbeat) -> str:
    """A heartbeat in words."""
    if heartbeat.stage == UNKNOWN:
        return f"its store has not answered for {heartbeat.age:.0f} s"
    return f"last seen {heartbeat.age:.0f} s ago after step {heartbeat.step} in stage {heartbeat.stage}"
