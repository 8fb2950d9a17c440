"""What training does after an alert: a decision without side effects, the same on every rank; checkpoints save it.

    action        an outlier step       a persistent problem            limit
    log           -                     -                               stop after `max_skips` non-finite steps in a row
    skip          skipped               -                               stop after `max_skips` skips in a row
    stop          -                     stop
    rollback      -                     rollback, skip the data since   stop after `max_rollbacks`
    rollback_lr   -                     the same, rates x `lr_backoff`  stop after `max_rollbacks`
    escalate      skipped               rollback, then rollback_lr      stop after `max_rollbacks`

With every action a step whose loss or gradient is not finite is skipped. At most `max_skips` outliers are skipped
within `window` steps; a further one is skipped only directly after a skipped step, so that a sample that is always an
outlier is learnt at some point. A persistent problem is a source's loss that is not recovering, slowly diverging,
frozen or not positive, or more than `max_skips` skips in a row: skipping cannot repair weights that are already
damaged, and a run that skips every step learns nothing.

Reasons: an isolated outlier needs nothing but gradient clipping; damaged weights need a rollback and other data (as in
PaLM's training); a persistent cause, such as a learning rate that is too high, needs a lower rate (as in OPT's
training) and a limit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from configs.training import MonitorConfig
from train.spikes.alerts import Alert
from train.spikes.monitor import SpikeMonitor

EXIT_CODE = 3  # of a run that the monitor stopped
PERSISTENT = ("not_recovering", "slow_divergence", "frozen", "not_positive")
REJECT_STEP = -1.0


@dataclass(frozen=True)
class Decision:
    """What to do after a step. A `rollback` goes to a checkpoint from before step `since`, when the problem began."""

    kind: str = "none"  # none, rollback, stop
    reason: str = ""
    since: int = 0
    lower_rate: bool = False


@dataclass
class PolicyState:
    """The policy's state, saved in checkpoints."""

    skips_in_a_row: int = 0
    first_skip: int = 0
    recent_skips: list[int] = field(default_factory=list)  # steps skipped among the last `window`
    missed: int = 0  # steps whose update was not applied: AdamW's step count is lower by this number
    rollbacks: int = 0
    lr_scale: float = 1.0
    rewarm_from: int | None = None


class SpikePolicy:
    """Decides before an update whether it is applied, and after it whether training continues."""

    def __init__(self, config: MonitorConfig):
        """The initial state."""
        self.config = config
        self.state = PolicyState()

    @property
    def rolls_back(self) -> bool:
        """True if the action may roll back, which needs a checkpoint."""
        return self.config.action in ("rollback", "rollback_lr", "escalate")

    def max_accepted_norm(self, monitor: SpikeMonitor, losses: Mapping[str, float]) -> float:
        """The largest gradient norm whose step is applied; `REJECT_STEP` if none is. A norm of NaN never passes."""
        if not all(math.isfinite(loss) for loss in losses.values()):
            return REJECT_STEP
        if self.config.action not in ("skip", "escalate") or self._skip_limit_reached:
            return math.inf
        return REJECT_STEP if monitor.loss_is_outlier(losses) else monitor.outlier_norm(losses)

    @property
    def _skip_limit_reached(self) -> bool:
        return len(self.state.recent_skips) >= self.config.max_skips and self.state.skips_in_a_row == 0

    def lr_scale(self, step: int) -> float:
        """Factor on the schedule's rate in optimizer step `step` (from 0): 1.0 unless there was a rollback."""
        start, warm = self.state.rewarm_from, self.config.rewarm_steps
        if start is None or step - start >= warm:
            return self.state.lr_scale
        return self.state.lr_scale * (step - start + 1) / warm

    def decide(self, step: int, alerts: Sequence[Alert], applied: bool) -> Decision:
        """What follows from the alerts on `step` (counted from 1), and from whether its update was applied."""
        state = self.state
        state.recent_skips = [skipped for skipped in state.recent_skips if skipped > step - self.config.window]
        if applied:
            state.skips_in_a_row = 0
        else:
            state.first_skip = step if state.skips_in_a_row == 0 else state.first_skip
            state.skips_in_a_row += 1
            state.recent_skips.append(step)
            state.missed += 1
        if state.skips_in_a_row > self.config.max_skips:
            return self._escalate(f"{state.skips_in_a_row} steps in a row were skipped", state.first_skip)
        persistent = [alert for alert in alerts if alert.kind in PERSISTENT and alert.signal.startswith("loss/")]
        if not persistent or self.config.action in ("log", "skip"):
            return Decision()
        return self._escalate(persistent[0].message(), min(alert.steps.start for alert in persistent))

    def _escalate(self, reason: str, since: int) -> Decision:
        if not self.rolls_back:
            return Decision("stop", reason, since)
        if self.state.rollbacks >= self.config.max_rollbacks:
            return Decision("stop", f"{reason}; monitor.max_rollbacks {self.config.max_rollbacks} were used", since)
        lower = self.config.action == "rollback_lr" or (self.config.action == "escalate" and self.state.rollbacks > 0)
        return Decision("rollback", reason, since, lower)

    def rolled_back(self, step: int, decision: Decision, missed: int) -> None:
        """Record that the run is at `step` again, with `missed` fewer updates than steps."""
        self.state.rollbacks += 1
        self.state.missed = missed
        self.state.skips_in_a_row, self.state.recent_skips = 0, []
        self.state.rewarm_from = step
        if decision.lower_rate:
            self.state.lr_scale *= self.config.lr_backoff

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state, for the checkpoint."""
        return asdict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.state = PolicyState(**state)


def choose_checkpoint(steps: Sequence[int], since: int, margin: int) -> list[int]:
    """Checkpoints to try, best first, for a problem that began in step `since` (counted from 1).

    Those at least `margin` steps older, newest first; if there is none, all from before the problem, oldest first.

    >>> choose_checkpoint([0, 500, 1000, 1500], since=1520, margin=100)
    [1000, 500, 0]
    >>> choose_checkpoint([400, 500], since=450, margin=100)
    [400]
    """
    older = sorted(step for step in steps if step < since)
    safe = [step for step in older if step <= since - margin]
    return safe[::-1] or older


def skip_data(skipped: Sequence[tuple[int, int]], first: int, last: int) -> tuple[tuple[int, int], ...]:
    """The skipped ranges of data steps with [first, last) added; ranges within the new one are merged into it.

    >>> skip_data(((10, 20), (90, 95)), 5, 40)
    ((5, 40), (90, 95))
    """
    outside = [(start, end) for start, end in skipped if end <= first or start >= last]
    return tuple(sorted([*outside, (first, last)]))
