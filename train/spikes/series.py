"""Tests one series value by value: flags outliers, follows an episode, adds healthy values to the baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.training import MonitorConfig
from train.spikes.alerts import Alert
from train.spikes.detectors import Baseline, Shift, Trend
from train.spikes.early import rise_began
from train.spikes.episodes import RECOVERED_COUNT, Episode

FROZEN_AFTER = 8
TREND_REPEATED_EVERY = 8  # blocks of 32 steps


@dataclass
class Detector:
    """Watches one series. `watches_level`: also detects shifts and trends (for losses), not only outliers."""

    signal: str
    config: MonitorConfig
    watches_level: bool
    last: float | None = None
    same: int = 0
    episode: Episode | None = None
    trend: Trend = field(default_factory=Trend)
    rising_since: int | None = None
    blocks_reported: int = 0
    early_steps: list[int] = field(default_factory=list)  # of the values in the window, until there is a baseline

    def __post_init__(self) -> None:
        """Empty windows."""
        self.window = Baseline(self.config.window)
        self.healthy = self.window  # another object only while an episode has its own window
        self.shift = Shift()

    @property
    def has_baseline(self) -> bool:
        """False during the first `warmup` values."""
        return len(self.window) >= self.config.warmup

    @property
    def unresolved(self) -> str | None:
        """The kind of the open episode or trend; None if there is none."""
        if self.episode:
            return self.episode.kind or "outlier"
        return "slow_divergence" if self.rising_since is not None else None

    def observe(self, step: int, value: float, threshold: float) -> list[Alert]:
        """Test one value; an outlier is more than `threshold` deviations above the baseline."""
        self.same = self.same + 1 if value == self.last else 1
        self.last = value if math.isfinite(value) else None
        fault = self._fault(value)
        if fault:
            return self._take_fault(step, value, fault)
        log_value = math.log(value)
        if not self.has_baseline and not self.episode:
            self.window.add(log_value)
            return self._judge_early(step, value) if self.watches_level else []
        z = self.window.z(log_value) if self.has_baseline else 0.0
        if self.episode:
            return self._continue(self.episode, step, value, z > threshold)
        shifted = self.watches_level and self.shift.check(
            step, self.window.level_z(log_value) if self.has_baseline else 0.0
        )
        if z > threshold or shifted:
            kind = "outlier" if z > threshold else "shift"
            since = step if kind == "outlier" else self.shift.began()
            self.episode = Episode(
                since, None if kind == "outlier" else "shift", list(self.window.values), self._tail_length
            )
            self.episode.add(step, log_value, True)
            return [Alert(step, self.signal, kind, value, z, since)]
        self.window.add(log_value)
        return self._judge_trend(step, value) if self.watches_level else []

    def _judge_early(self, step: int, value: float) -> list[Alert]:
        """Before there is a baseline: has the level risen far above the first steps?"""
        self.early_steps = [*self.early_steps, step][-len(self.window) :]
        log_values = list(self.window.values)
        began = rise_began(log_values, self.has_baseline) if len(self.early_steps) == len(log_values) else None
        if began is None:
            return []
        since, self.early_steps = self.early_steps[began:], []
        self.episode = Episode(since[0], "shift", log_values[:began], self._tail_length, early=True)
        for number, log_value in zip(since, log_values[began:], strict=True):
            self.episode.add(number, log_value, True)
        self.window = self.healthy = Baseline(self.config.window, log_values[:began])
        return [Alert(step, self.signal, "shift", value, self.window.level_z(math.log(value)), since[0])]

    @property
    def _tail_length(self) -> int:
        """How many of an episode's last values are needed."""
        return max(self.config.rebaseline_after, RECOVERED_COUNT[1])

    def _fault(self, value: float) -> str | None:
        if not math.isfinite(value):
            return "non_finite"
        if value <= 0:
            return "not_positive"
        return "frozen" if self.same >= FROZEN_AFTER else None

    def _take_fault(self, step: int, value: float, fault: str) -> list[Alert]:
        """Report the first 8 steps of a fault in a row, then every `rebaseline_after`-th (32nd)."""
        if self.episode is None:
            self.episode = Episode(step, fault, list(self.window.values), self._tail_length)
        self.episode.fault(fault)
        lasted = self.episode.values
        if lasted > FROZEN_AFTER and lasted % self.config.rebaseline_after:
            return []
        return [Alert(step, self.signal, fault, value, since=self.episode.since)]

    def _continue(self, episode: Episode, step: int, value: float, outlier: bool) -> list[Alert]:
        """Test a finite value inside an episode."""
        log_value = math.log(value)
        judged = episode.early or len(self.healthy) >= self.config.warmup
        z = self.healthy.z(log_value) if judged else 0.0
        episode.add(step, log_value, outlier or z > self.config.threshold)
        alerts = [Alert(step, self.signal, "outlier", value, z, episode.since)] if outlier else []
        if episode.is_back(self.healthy, judged):
            return [*alerts, self._close(episode, value, z)]
        if episode.values >= self.config.accept_after * (2 if episode.kind == "recovering" else 1):
            self.episode, self.healthy = None, self.window
            self.trend, self.rising_since, self.shift = Trend(), None, Shift()
            return [*alerts, Alert(step, self.signal, "accepted", value, z, episode.since, episode.kind)]
        if episode.values % self.config.rebaseline_after == 0 and episode.is_still_out(self.healthy):
            alerts.append(Alert(step, self.signal, episode.name(self.healthy), value, z, episode.since))
            self.window = Baseline(self.config.window, (log_value for _, log_value in episode.tail))
        return alerts

    def _close(self, episode: Episode, value: float, z: float) -> Alert:
        """Add the values since the episode ended to the baseline; the alert has the step at which it ended."""
        self.window = self.healthy
        for _, log_value in episode.last_values:
            self.window.add(log_value)
        self.episode, self.shift = None, Shift()
        ended, kind = episode.last_values[0][0], episode.final_kind()
        return Alert(ended, self.signal, "recovered", value, z, episode.since, kind)

    def _judge_trend(self, step: int, value: float) -> list[Alert]:
        rising = self.trend.check(math.log(value), self.window)
        if rising is None or (not rising and self.rising_since is None):
            return []
        if not rising:
            since, self.rising_since = self.rising_since, None
            return [Alert(step, self.signal, "recovered", value, None, since, "slow_divergence")]
        self.blocks_reported = 0 if self.rising_since is None else self.blocks_reported + 1
        self.rising_since = step if self.rising_since is None else self.rising_since
        if self.blocks_reported % TREND_REPEATED_EVERY:
            return []
        return [Alert(step, self.signal, "slow_divergence", value, None, self.rising_since)]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {
            "window": list(self.window.values),
            "recent": list(self.shift.recent),
            "recent_steps": list(self.shift.steps),
            "last": self.last,
            "same": self.same,
            "episode": self.episode.state_dict() if self.episode else None,
            "own_window": self.healthy is not self.window,
            "trend": self.trend.state_dict(),
            "rising_since": self.rising_since,
            "blocks_reported": self.blocks_reported,
            "early_steps": self.early_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.window = self.healthy = Baseline(self.config.window, state["window"])
        self.shift = Shift()
        self.shift.recent.extend(state["recent"])
        self.shift.steps.extend(state.get("recent_steps", []))
        self.last, self.same = state["last"], state["same"]
        self.trend = Trend.from_state_dict(state["trend"])
        self.rising_since, self.blocks_reported = state["rising_since"], state["blocks_reported"]
        self.early_steps = list(state["early_steps"])
        saved = state["episode"]
        self.episode = None if saved is None else Episode.from_state_dict(saved)
        if saved is not None and state["own_window"]:
            self.healthy = Baseline(self.config.window, saved["healthy"])
