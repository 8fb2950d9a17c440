"""Which events are pointed out outside the run's files, and the samples that the loss-spike monitor flagged."""

from collections.abc import Iterable, Mapping
from typing import Any

from train.loggers.types import Record
from train.spikes.alerts import ALARMS, EPISODE_UPDATES, EVERY_STEP

KINDS = frozenset(
    (
        *ALARMS,
        *EPISODE_UPDATES,
        "skipped",
        "rolled_back",
        "stopped_by_monitor",
        "checkpoint_failed",
        "straggler",
        "loss_above_start",
        "nothing_trained",
    )
)
MOST_FLAGGED = 1000
FLAGGED_COLUMNS = ("step", "alert", "signal", "value", "data_step", "sample")


def is_shown(event: Record) -> bool:
    """Whether an event becomes an alert: of those that come with every step of an episode, the first."""
    begins = event.get("since") in (None, event["step"])
    return event["kind"] in KINDS and (begins or event["kind"] not in EVERY_STEP)


def flagged_rows(events: Iterable[Record]) -> list[list[Any]]:
    """`FLAGGED_COLUMNS` of each sample that an alert named, the first `MOST_FLAGGED`, then a row with the rest's count.

    >>> flagged_rows([{"step": 9, "kind": "outlier", "signal": "loss/a", "value": 7, "samples": {"8": ["a-1"]}}])
    [[9, 'outlier', 'loss/a', 7.0, 8, 'a-1']]
    """
    rows = [
        [event["step"], event["kind"], event.get("signal"), _number(event.get("value")), int(data_step), sample]
        for event in events
        if isinstance(event.get("samples"), Mapping)
        for data_step, samples in event["samples"].items()
        for sample in ([samples] if isinstance(samples, str) else samples)
    ]
    if len(rows) > MOST_FLAGGED:
        rest = f"{len(rows) - MOST_FLAGGED:,} more samples are in events.jsonl"
        rows = [*rows[:MOST_FLAGGED], [rows[-1][0], "", "", None, rows[-1][4], rest]]
    return rows


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
