"""What every metric logger has in common: its two kinds of record, steps and events."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

Record = Mapping[str, Any]


class MetricLogger(Protocol):
    """Takes one record per step and one per event."""

    def log_step(self, record: Record) -> None:
        """One optimizer step."""
        ...

    def log_event(self, record: Record) -> None:
        """One event: an alert of the monitor, a checkpoint, a resume, ..."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


def make_event(step: int, kind: str, message: str, **details: Any) -> dict[str, Any]:
    """A record for `MetricLogger.event`."""
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "step": step, "kind": kind, "message": message, **details}
