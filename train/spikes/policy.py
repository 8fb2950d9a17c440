"""What to do after the monitor's alerts: a pure decision, the same on every rank; its state is saved in checkpoints.

    action        an outlier step       lasting trouble                 limit
    log           -                     -                               stop after `max_skips` non-finite steps in a row
    skip          skipped               -                               stop after `max_skips` skips in a row
    stop          -                     stop
    rollback      -                     rollback, skip the data since   stop after `max_rollbacks`
    rollback_lr   -                     the same, rates x `lr_backoff`  stop after `max_rollbacks`
    escalate      skipped               rollback, then rollback_lr      stop after `max_rollbacks`

A step whose loss or gradient is not finite is skipped in all of them. Outliers are skipped `max_skips` times within
`window` steps; after that one is skipped only next to another, so that a sample that always stands out is learnt one
day. Lasting trouble is a source's loss that is not recovering, slowly diverging, frozen or not positive, or more than
`max_skips` skips in a row: skipping a step cannot repair weights that are already damaged, and skipping for ever stops
all learning.

Why this order: clipped isolated outliers need nothing; damage to the state needs a rollback, and other data (as PaLM
did); a persistent cause, such as too high a learning rate, needs a lower rate (OPT; LLaVA's LoRA), and a limit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from configs.training import MonitorConfig
from train.spikes.alerts import Alert
from train.spikes.monitor import SpikeMonitor

EXIT_CODE = 3  # of a run that the monitor stopped
LASTING = ("not_recovering", "slow_divergence", "frozen", "not_positive")
CLOSED = -1.0


@dataclass(frozen=True)
class Decision:
    """What to do after a step. A `rollback` goes to a checkpoint from before step `since`, when the trouble began."""

    kind: str = "none"  # none, rollback, stop
    reason: str = ""
    since: int = 0
    lower_rate: bool = False


@dataclass
class PolicyState:
    """The policy's state, saved in checkpoints."""

    skips_in_a_row: int = 0
    first_skip: int = 0
    lately: list[int] = field(default_factory=list)  # steps skipped among the last `window`
    missed: int = 0  # steps of this run's history whose update was not applied: AdamW has counted so many fewer
    rollbacks: int = 0
    lr_scale: float = 1.0
    rewarm_from: int | None = None


class SpikePolicy:
    """Decides before an update whether it may happen, and after it whether to go on."""

    def __init__(self, config: MonitorConfig):
        """The initial state."""
        self.config = config
        self.state = PolicyState()

    @property
    def rolls_back(self) -> bool:
        """True if a rollback may be decided, for which there must be a checkpoint."""
        return self.config.action in ("rollback", "rollback_lr", "escalate")

    def norm_limit(self, monitor: SpikeMonitor, losses: Mapping[str, float]) -> float:
        """The largest gradient norm whose step is applied; `CLOSED` if none is. A norm of NaN never passes."""
        if not all(math.isfinite(loss) for loss in losses.values()):
            return CLOSED
        if self.config.action not in ("skip", "escalate") or self._skip_limit_reached:
            return math.inf
        return CLOSED if monitor.loss_stands_out(losses) else monitor.norm_limit(losses)

    @property
    def _skip_limit_reached(self) -> bool:
        return len(self.state.lately) >= self.config.max_skips and self.state.skips_in_a_row == 0

    def lr_scale(self, step: int) -> float:
        """Factor on the schedule's rate in optimizer step `step` (from 0): 1.0 unless there was a rollback."""
        start, warm = self.state.rewarm_from, self.config.rewarm_steps
        if start is None or step - start >= warm:
            return self.state.lr_scale
        return self.state.lr_scale * (step - start + 1) / warm

    def decide(self, step: int, alerts: Sequence[Alert], applied: bool) -> Decision:
        """What follows from the alerts on `step` (counted from 1), and from whether its update was applied."""
        state = self.state
        state.lately = [skipped for skipped in state.lately if skipped > step - self.config.window]
        if applied:
            state.skips_in_a_row = 0
        else:
            state.first_skip = step if state.skips_in_a_row == 0 else state.first_skip
            state.skips_in_a_row += 1
            state.lately.append(step)
            state.missed += 1
        if state.skips_in_a_row > self.config.max_skips:
            return self._escalate(f"{state.skips_in_a_row} steps in a row were skipped", state.first_skip)
        lasting = [alert for alert in alerts if alert.kind in LASTING and alert.signal.startswith("loss/")]
        if not lasting or self.config.action in ("log", "skip"):
            return Decision()
        return self._escalate(lasting[0].message(), min(alert.steps.start for alert in lasting))

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
        self.state.skips_in_a_row, self.state.lately = 0, []
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
    """Checkpoints to try, best first, for trouble that began in step `since` (from 1).

    The newest that is `margin` steps older; where none is, the oldest from before the trouble.

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
