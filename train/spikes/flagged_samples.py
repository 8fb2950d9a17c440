"""The samples of the steps that an alert is about, looked up in the data order and the shards only after an alert.

Steps without an alert cost no time. An alert about one value names the samples of its step, one about an episode those
of its first 8 steps; an alert about a source's loss names only that source's samples.
"""

from collections.abc import Callable, Sequence

from configs.errors import DataError
from train.data.order import PADDING
from train.data.packing import StepOrder
from train.data.sources import SourceSet
from train.spikes.alerts import EVERY_STEP, Alert

MOST_STEPS = 8


class SampleLookup:
    """Looks up the ids of the samples of data steps."""

    def __init__(self, sources: SourceSet, order: StepOrder):
        """`order` may be of any world size: the samples of a step are the same."""
        self.sources = sources
        self.order = order

    def ids(self, data_step: int, source: str | None = None) -> list[str]:
        """Ids of a data step's samples, of `source` alone if it is given. Raises `DataError` if a shard is missing."""
        names = self.sources.names
        return [
            self.sources.record(position).id
            for position in next(self.order.batches(data_step))
            if position != PADDING and (source is None or names[self.sources.locate(position)[0]] == source)
        ]

    def ids_for(self, alert: Alert, data_step: Callable[[int], int]) -> dict[str, list[str] | str]:
        """Data step to ids. `data_step` maps optimizer steps, counted from 0. Unreadable shards do not end a run."""
        source = alert.signal.removeprefix("loss/") if alert.signal.startswith("loss/") else None
        found: dict[str, list[str] | str] = {}
        for step in flagged_steps(alert):
            index = data_step(step - 1)
            try:
                found[str(index)] = self.ids(index, source)
            except (DataError, OSError) as error:
                found[str(index)] = f"not read: {error}"
        return found


def flagged_steps(alert: Alert) -> Sequence[int]:
    """The steps whose samples are named.

    >>> flagged_steps(Alert(640, "loss/a", "outlier", 6.7, since=601))
    [640]
    >>> flagged_steps(Alert(640, "loss/a", "recovered", 1.0, since=601))
    [601, 602, 603, 604, 605, 606, 607, 608]
    """
    if alert.kind in EVERY_STEP:
        return [alert.step]
    return [step for step in alert.steps if step > 0][:MOST_STEPS]
