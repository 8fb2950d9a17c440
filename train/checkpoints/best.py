"""The best checkpoint so far by held-out loss, and when to stop for lack of a better one.

Each measurement is the mean over the held-out sources. The state is part of every checkpoint, so a resumed run chooses
as an uninterrupted one does, and `best_of` finds the choice in the newest checkpoint.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from configs.errors import RunError
from configs.run_dir import CheckpointDir, RunDir
from configs.saving import CheckpointConfig
from train.checkpoints.reading import steps_present
from train.models.export_choice import HELD_OUT_LOSS


@dataclass
class BestCheckpoint:
    """`step` has the lowest `loss` of `measured` measurements, and `since` have followed it; None before the first.

    `items` counts the held-out samples of each source that a measurement is about.
    """

    config: CheckpointConfig
    items: Mapping[str, int] = field(default_factory=dict)
    step: int | None = None
    loss: float = math.inf
    measured: int = 0
    since: int = 0

    def observe(self, step: int, losses: Mapping[str, float] | None) -> bool:
        """Whether step `step`, with these held-out losses by source, is the best so far; None: not measured."""
        if not losses:
            return False
        self.measured += 1
        loss = sum(losses.values()) / len(losses)
        if loss < self.loss:  # never for nan
            self.step, self.loss, self.since = step, loss, 0
            return True
        self.since += 1
        return False

    @property
    def keeps(self) -> bool:
        """Whether the best checkpoint is kept and exported."""
        return self.config.keep == "best"

    def is_exhausted(self) -> bool:
        """Whether the run ends early: `patience` measurements have brought nothing better."""
        return 0 < self.config.patience <= self.since

    def state_dict(self) -> dict[str, Any]:
        """As JSON types."""
        state = asdict(self)
        del state["config"]
        return state | {"loss": None if math.isinf(self.loss) else self.loss}

    def load_state_dict(self, state: Mapping[str, Any] | None, present: Collection[int]) -> None:
        """Continue from `state`; a best step that is not `present`, as after a rollback, is forgotten.

        So are all measurements of other held-out samples, with which later ones cannot be compared.
        """
        values = dict(state or {})
        if values.get("items") != dict(self.items):
            values = {}
        if values.get("step") is None or (self.keeps and values["step"] not in present):
            values = {"measured": values.get("measured", 0)}
        self.step, self.loss = values.get("step"), values.get("loss", math.inf)
        self.measured, self.since = values.get("measured", 0), values.get("since", 0)


def best_of(run: RunDir) -> dict[str, Any] | None:
    """What the newest checkpoint of `run` says about the best one (`BestCheckpoint.state_dict`); None without.

    Raises `RunError` if the newest checkpoint cannot be read.
    """
    steps = steps_present(run)
    if not steps:
        return None
    file = CheckpointDir(run.checkpoint(steps[-1])).state
    try:
        best: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")).get("best")
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); name a step with --step") from error
    return best if best and best["step"] is not None else None


def choice_record(run: RunDir, step: int) -> dict[str, Any] | None:
    """How checkpoint `step` was chosen, for the export's record; None if it was not chosen as the best one."""
    best = best_of(run)
    if best is None or best["step"] != step:
        return None
    return {"by": HELD_OUT_LOSS, "value": best["loss"], "items": best["items"], "measured": best["measured"]}
