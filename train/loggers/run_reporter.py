"""What a run tells of its steps: metrics, the monitor's verdicts with their samples, checkpoints, lagging ranks.

Every rank has a `Reporter`; where there are no sinks, on ranks that do not lead, it says nothing and reads no sample.
"""

from collections.abc import Sequence
from typing import Any

from train.checkpoints.async_checkpointer import Outcome
from train.data.order import OrderState
from train.loggers.metrics_log import Sink, make_event
from train.loggers.step_record import skip_message
from train.plan import RunPlan
from train.spikes.alerts import Verdict
from train.spikes.flagged_samples import Witness
from train.supervision.heartbeats import Board
from train.supervision.stragglers import Stragglers


class Reporter:
    """Tells the sinks."""

    def __init__(self, plan: RunPlan, sinks: list[Sink], board: Board):
        """`board` knows where each rank runs."""
        self.sinks = sinks
        self.board = board
        self.every = plan.config.logging.every
        self.witness = Witness(plan.sources, plan.order)
        self.stragglers = Stragglers(plan.config.train.straggler_factor)

    def event(self, step: int, kind: str, message: str, **details: Any) -> None:
        """An event of `step`."""
        for sink in self.sinks:
            sink.event(make_event(step, kind, message, **details))

    def saved(self, outcome: Outcome) -> None:
        """What came of a save."""
        kind, message, details = outcome.event()
        self.event(outcome.step, kind, message, **details)

    def step(self, record: dict[str, Any], verdicts: Sequence[Verdict], order: OrderState) -> None:
        """The record of a step, every `logging.every` steps or where something is the matter, and what that is."""
        step, skipped = record["step"], record.get("skipped")
        if step % self.every == 0 or verdicts or skipped or "heldout_loss" in record:
            for sink in self.sinks:
                sink.metrics(record)
        if count := record["unreadable_samples"]:
            told = f"{count} samples weigh nothing; the ranks that read them name them"
            self.event(step, "unreadable_samples", told)
        for verdict in verdicts if self.sinks else ():
            self.event(step, verdict.kind, verdict.message(), **self._details(verdict, order))
        if skipped:
            self.event(step, "skipped", skip_message(record), suspects=record.get("suspects"))

    def _details(self, verdict: Verdict, order: OrderState) -> dict[str, Any]:
        """What an event says of a verdict beside its message."""
        steps = (verdict.steps.start, verdict.steps[-1])
        return {
            "signal": verdict.signal,
            "value": verdict.value,
            "since": verdict.since,
            "nature": verdict.nature,
            "data_steps": [order.data_step(max(0, step - 1)) for step in steps],
            "samples": self.witness.of(verdict, order.data_step),
        }

    def lagging(self, step: int, own_seconds: Sequence[float], step_s: float) -> None:
        """Tell of a rank that begins to hold up the others, by each rank's own seconds of a step of `step_s`."""
        for found in self.stragglers.observe(own_seconds, step_s) if self.sinks else ():
            message = (
                f"{self.board.name(found.rank)} takes {found.score:.1f} times as long as the others; "
                f"it costs {found.seconds:.2f} s a step"
            )
            self.event(step, "straggler", message, rank=found.rank, score=found.score, seconds=found.seconds)
