"""The samples a verdict speaks of: found from the order and read from the shards only when there is a verdict.

Healthy steps cost nothing. A verdict about one value names its own step's samples, one about an episode those of its
first 8 steps; of a loss only the samples of its source.
"""

from collections.abc import Callable, Sequence

from configs.errors import DataError
from train.data.order import PADDING
from train.data.packing import StepOrder
from train.data.sources import SourceSet
from train.spikes.alerts import EVERY_STEP, Verdict

MOST_STEPS = 8


class Witness:
    """Names the samples of data steps."""

    def __init__(self, sources: SourceSet, order: StepOrder):
        """`order` of any world: it is the same samples for each."""
        self.sources = sources
        self.order = order

    def ids(self, data_step: int, source: str | None = None) -> list[str]:
        """Ids of a data step's samples, of `source` alone if it is given. Raises `DataError` if a shard is gone."""
        names = self.sources.names
        return [
            self.sources.record(position).id
            for position in next(self.order.batches(data_step))
            if position != PADDING and (source is None or names[self.sources.locate(position)[0]] == source)
        ]

    def of(self, verdict: Verdict, data_step: Callable[[int], int]) -> dict[str, list[str] | str]:
        """Data step to ids. `data_step` maps optimizer steps from 0. Shards that cannot be read do not end a run."""
        source = verdict.signal.removeprefix("loss/") if verdict.signal.startswith("loss/") else None
        found: dict[str, list[str] | str] = {}
        for step in involved(verdict):
            place = data_step(step - 1)
            try:
                found[str(place)] = self.ids(place, source)
            except (DataError, OSError) as error:
                found[str(place)] = f"not read: {error}"
        return found


def involved(verdict: Verdict) -> Sequence[int]:
    """The steps whose samples are named.

    >>> involved(Verdict(640, "loss/a", "outlier", 6.7, since=601))
    [640]
    >>> involved(Verdict(640, "loss/a", "recovered", 1.0, since=601))
    [601, 602, 603, 604, 605, 606, 607, 608]
    """
    if verdict.kind in EVERY_STEP:
        return [verdict.step]
    return [step for step in verdict.steps if step > 0][:MOST_STEPS]
