"""Signals that ask a run to stop: remembered here, acted on at the next step boundary, agreed by all ranks.

Entry points install the handlers before torch is imported, since a signal that arrives during the slow start would
otherwise kill the rank. SLURM sends SIGUSR1 before the time limit (slurm/finetune.sbatch) and SIGTERM at preemption.
"""

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

_received: list[int] = []


def install() -> None:
    """Turn each stop signal into a remembered request."""
    for number in STOP_SIGNALS:
        signal.signal(number, _remember)


def _remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
    _received.append(number)


def stop_requested() -> bool:
    """True once this process has received a stop signal."""
    return bool(_received)


def ignore() -> None:
    """Ignore stop signals from here on: the state is saved, and Python's shutdown must not be cut short."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
