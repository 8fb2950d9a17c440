"""Requests to stop: signals, or a launcher that is gone; remembered here, agreed by all ranks at a step boundary.

Entry points install the handlers before torch is imported, since a signal that arrives during the slow start would
otherwise kill the rank. SLURM sends SIGUSR1 before the time limit (slurm/finetune.sbatch) and SIGTERM at preemption.
A handler only remembers, so a second signal changes nothing, also while a checkpoint is written. Two places wait for
something that may never come, or may take longer than there is time: reading data and exporting. They are
`interruptible`.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
"""Until the config is read: the default of train.stop_signals."""


class StopRequested(BaseException):
    """Raised inside `interruptible` only. No `Exception`, so that no handler of errors takes it for one."""


class _State:
    """No dataclass: every import before `install` is time in which a signal kills."""

    def __init__(self) -> None:
        self.numbers: list[signal.Signals] = []  # those that have our handler
        self.reasons: list[str] = []
        self.interruptible = False
        self.listening = False


_state = _State()


def install(names: Sequence[str] = STOP_SIGNALS) -> None:
    """Turn each signal in `names` into a remembered request; SIGHUP stays ignored under `nohup`.

    Called again with other names, as the config is only read after torch was imported, it gives signals that are no
    longer among them their usual effect.
    """
    wanted = [signal.Signals[name] for name in names]
    for number in _state.numbers:
        if number not in wanted:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        wanted = [number for number in wanted if number != signal.SIGHUP]
    _state.numbers = wanted
    for number in _state.numbers:
        signal.signal(number, _remember)
    if wanted and not _state.listening:
        _listen()


def _listen() -> None:
    """Remember signals also while the main thread, which alone runs handlers in Python, waits for other ranks."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_read_numbers, args=(reading,), name="signals", daemon=True).start()
    _state.listening = True


def _read_numbers(pipe: int) -> None:
    while numbers := os.read(pipe, 64):
        _state.reasons += [signal.Signals(number).name for number in numbers if number in _state.numbers]


def _remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
    _state.reasons.append(signal.Signals(number).name)
    if _state.interruptible:
        _state.interruptible = False  # before it is raised: a second signal must not raise again while this unwinds
        raise StopRequested


def request(reason: str) -> None:
    """Ask this process to stop, from any thread of it."""
    _state.reasons.append(reason)
    if _state.numbers:  # wakes the main thread where it waits interruptibly
        signal.pthread_kill(threading.main_thread().ident or 0, _state.numbers[0])


def stop_requested() -> bool:
    """True once this process has received a stop request."""
    return bool(_state.reasons)


def reason() -> str:
    """Why, in the words of the first request; empty if there was none."""
    return _state.reasons[0] if _state.reasons else ""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `StopRequested` within as soon as this process is asked to stop; at once if it already was."""
    _state.interruptible = True
    try:
        if _state.reasons:
            raise StopRequested
        yield
    finally:
        _state.interruptible = False


def _leave_to_the_rank() -> None:
    """In a process that a rank forks, such as a data worker: it must not die of what its rank only remembers."""
    if _state.listening:
        signal.set_wakeup_fd(-1)
        _state.listening = False
    ignore()


os.register_at_fork(after_in_child=_leave_to_the_rank)


def ignore() -> None:
    """Ignore stop signals from here on: the state is saved, and Python's shutdown must not be cut short."""
    _state.interruptible = False
    for number in _state.numbers:
        signal.signal(number, signal.SIG_IGN)
