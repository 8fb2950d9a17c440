"""Watches the launchers above a rank, `deepspeed` or `torchrun`: when one is gone, the rank is asked to stop.

`deepspeed` ends on SIGTERM, and its launch.py on SIGUSR1, without notifying the ranks, which would continue to train.
The kernel notifies a process only of its parent's death (PR_SET_PDEATHSIG), and `deepspeed` is the grandparent; so a
thread checks twice a second whether both still run. The module imports nothing slow: the thread starts before torch.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD = 0.5  # seconds between looks
PROGRAMS = frozenset({"deepspeed", "deepspeed.pt", "deepspeed_launcher.py", "torchrun"})
DEEPSPEED_LAUNCH = "deepspeed.launcher.launch"
MODULES = frozenset({DEEPSPEED_LAUNCH, "torch.distributed.run", "torch.distributed.launch"})
LEADING_WORDS = 4  # `python -u -m deepspeed.launcher.launch`: further words are the training's own arguments


@dataclass(frozen=True)
class Process:
    """A process that another one cannot be taken for: process ids are given out again, with another start."""

    pid: int
    start: int
    """When it started, in the kernel's clock ticks since boot."""
    parent: int = 0

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The living process `pid`; None if there is none, or if it has ended and waits to be collected."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        state, parent, *rest = text.rpartition(")")[2].split()  # the name before it may hold anything
        return None if state in "ZX" else cls(pid, int(rest[17]), int(parent))

    @property
    def is_alive(self) -> bool:
        """Whether it is still there."""
        now = Process.of(self.pid)
        return now is not None and now.start == self.start


def is_launcher(words: Sequence[str]) -> bool:
    """Whether a command line is that of a launcher.

    >>> is_launcher(["python", "/usr/bin/deepspeed", "train/finetune.py"])
    True
    >>> is_launcher(["python", "-m", "launch.demo"])
    False
    """
    leading = words[:LEADING_WORDS]
    return any(Path(word).name in PROGRAMS or word in MODULES for word in leading)


def launchers() -> list[tuple[Process, list[str]]]:
    """The launchers among this process' ancestors with their command lines, the nearest first."""
    found = []
    process = Process.of(os.getppid())
    while process is not None and process.pid > 1:
        words = _words(process.pid)
        if is_launcher(words):
            found.append((process, words))
        process = Process.of(process.parent)
    return found


def gone_already(
    found: Sequence[tuple[Process, Sequence[str]]], environment: Mapping[str, str], first: Sequence[str]
) -> str | None:
    """The launcher that was gone before this process could look, or None; `first` is process 1's command line.

    DeepSpeed's launch.py gives each rank CROSS_RANK; on one node `deepspeed` starts it, without --node_rank, and
    process 1 adopts it once `deepspeed` is gone.
    """
    if is_launcher(first):
        return None  # a container's entry point
    if not found:
        return "that started this rank" if "CROSS_RANK" in environment else None
    top, words = found[-1]
    alone = DEEPSPEED_LAUNCH in words[:LEADING_WORDS] and not any(word.startswith("--node_rank") for word in words)
    return f"above process {top.pid}" if alone and top.parent == 1 else None


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def start(request: Callable[[str], None]) -> None:
    """Call `request` once, with a reason for people, when a launcher of this process is gone."""
    watched = launchers()
    if gone := gone_already(watched, os.environ, _words(1)):
        request(f"the launcher {gone} is gone")
    elif watched:
        threading.Thread(target=_watch, args=(watched, request), name="launcher watch", daemon=True).start()


def _watch(watched: Sequence[tuple[Process, Sequence[str]]], request: Callable[[str], None]) -> None:
    while all(process.is_alive for process, _ in watched):
        time.sleep(PERIOD)
    process, words = next((process, words) for process, words in watched if not process.is_alive)
    name = " ".join(Path(word).name for word in words[:LEADING_WORDS])
    request(f"the launcher {name} (process {process.pid}) is gone")
