"""Ctrl-C and SIGTERM while an API is asked: replies to requests already sent are paid for, so they are kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from configs.errors import RunError
from data_prep.api.asking import CONTINUES, Asker
from data_prep.progress import log_line

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopped_by_signals(asker: Asker) -> Iterator[None]:
    """Within it, the first Ctrl-C or SIGTERM stops `asker` after the requests already sent; the second ends at once.

    Does nothing outside the main thread, which alone handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        for again in SIGNALS:
            signal.signal(again, before[again])
        log_line("waiting for the requests already sent; a second Ctrl-C ends at once")
        asker.stop(RunError(f"stopped by {signal.Signals(number).name}; {CONTINUES}"))

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
