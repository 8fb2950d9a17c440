"""Alerts of the monitor and their kinds. An alert is about one step or one episode of one signal."""

from dataclasses import dataclass

FAULTS = ("non_finite", "not_positive", "frozen")
EVERY_STEP = (*FAULTS, "outlier")  # about single values; the others are about the level of several
ALARMS = (*EVERY_STEP, "shift", "not_recovering", "slow_divergence")
EPISODE_UPDATES = ("recovering", "recovered", "accepted")


@dataclass(frozen=True)
class Alert:
    """One alert. `kind` is one of `ALARMS` or `EPISODE_UPDATES`, `signal` such as `loss/imagenet`.

    `score` is in robust deviations. `since` is the step at which the episode began; `episode_kind` is the kind of the
    episode that ended: `recovered` at step 640 since 601 with `episode_kind` `spike` means that steps 601 to 639 were
    out and 640 was not.
    """

    step: int
    signal: str
    kind: str
    value: float
    score: float | None = None
    since: int | None = None
    episode_kind: str | None = None

    @property
    def steps(self) -> range:
        """The flagged steps, whose samples should be inspected."""
        first = self.step if self.since is None else self.since
        return range(first, max(self.step + (self.kind != "recovered"), first + 1))

    def message(self) -> str:
        """One readable line."""
        score = f" ({self.score:+.1f} robust deviations)" if self.score is not None else ""
        since = f", since step {self.since}" if self.since is not None and self.since != self.step else ""
        episode = f" from: {self.episode_kind.replace('_', ' ')}" if self.episode_kind else ""
        kind = self.kind.replace("_", " ")
        return f"{self.signal}: {kind}{episode} at step {self.step}: {self.value:.6g}{score}{since}"
