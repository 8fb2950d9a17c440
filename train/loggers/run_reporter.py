"""Logs what happens in a run: metrics, alerts with their samples, checkpoints, slow ranks.

Every rank has a `RunReporter`; without loggers, on all ranks but the main one, it logs nothing and reads no sample.
"""

from collections.abc import Sequence
from typing import Any

from configs.run import RunConfig
from data_prep.sample import UnreadableSample
from train.checkpoints.async_checkpointer import SaveResult
from train.data.order import DataPosition
from train.loggers.step_record import skip_message
from train.loggers.types import MetricLogger, make_event
from train.spikes.alerts import Alert
from train.spikes.flagged_samples import SampleLookup
from train.supervision.heartbeats import HeartbeatStore
from train.supervision.stragglers import Stragglers


class RunReporter:
    """Passes steps and events on to the loggers of this rank."""

    def __init__(
        self, config: RunConfig, lookup: SampleLookup, loggers: list[MetricLogger], heartbeats: HeartbeatStore
    ):
        """`lookup` names the samples of an alert; `heartbeats` knows where each rank runs."""
        self.loggers = loggers
        self.heartbeats = heartbeats
        self.every = config.logging.every
        self.sample_lookup = lookup
        self.stragglers = Stragglers(config.train.straggler_factor, config.train.straggler_seconds)

    def event(self, step: int, kind: str, message: str, **details: Any) -> None:
        """An event of `step`."""
        for logger in self.loggers:
            logger.log_event(make_event(step, kind, message, **details))

    def saved(self, outcome: SaveResult) -> None:
        """The result of a save."""
        kind, message, details = outcome.event()
        self.event(outcome.step, kind, message, **details)

    def unreadable(self, step: int, split: str, rank: int, samples: Sequence[UnreadableSample]) -> None:
        """An event for each sample of `split` (`train` or `heldout`) that `rank` could not use (weight 0)."""
        for sample in samples:
            message = f"rank {rank} could not use {sample.id} of {sample.source} ({split}), its loss has weight 0: "
            details = {"source": sample.source, "id": sample.id, "reason": sample.reason, "rank": rank, "split": split}
            self.event(step, "unreadable_sample", message + sample.reason, **details)

    def step(self, record: dict[str, Any], alerts: Sequence[Alert], position: DataPosition) -> None:
        """The record of a step, every `logging.every` steps and whenever there is an alert, and the alerts."""
        step, skipped = record["step"], record.get("skipped")
        if step % self.every == 0 or alerts or skipped or "heldout_loss" in record:
            for logger in self.loggers:
                logger.log_step(record)
        for alert in alerts if self.loggers else ():
            self.event(step, alert.kind, alert.message(), **self._details(alert, position))
        if skipped:
            self.event(step, "skipped", skip_message(record), nonfinite_samples=record.get("nonfinite_samples"))

    def _details(self, alert: Alert, position: DataPosition) -> dict[str, Any]:
        """The fields of an alert's event besides its message."""
        steps = (alert.steps.start, alert.steps[-1])
        return {
            "signal": alert.signal,
            "value": alert.value,
            "since": alert.since,
            "episode_kind": alert.episode_kind,
            "data_steps": [position.data_step(max(0, step - 1)) for step in steps],
            "samples": self.sample_lookup.ids_for(alert, position.data_step),
        }

    def lagging(self, step: int, own_seconds: Sequence[float], step_s: float) -> None:
        """Log a rank that begins to slow the others down, given each rank's own seconds of a step of `step_s`."""
        for found in self.stragglers.observe(own_seconds, step_s) if self.loggers else ():
            message = (
                f"{self.heartbeats.name(found.rank)} takes {found.score:.1f} times as long as the others; "
                f"it costs {found.seconds:.2f} s a step"
            )
            self.event(step, "straggler", message, rank=found.rank, score=found.score, seconds=found.seconds)
