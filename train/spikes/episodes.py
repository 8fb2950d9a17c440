"""From single values to what happened: an episode begins with a flagged value and is named by how it ends.

    isolated          back at its level within 2 steps                            one bad batch
    spike             back within 32
    recovering        still out after 32 steps, but a quarter of the way down (in logs); becomes `recovered`
    never_recovering  still out and not falling; said again every `reseed_after` (32) steps until it ends
    slow_divergence   a trend, without any value that stands out
    non_finite, not_positive, frozen                                              at once

"Back" means: 8 values in a row (32 after more than 8 steps out) none of which is an outlier and whose median lies less
than 1.5 deviations (1 after more than 8 steps out) above the healthy baseline. Nothing enters that baseline while an
episode lasts. So that a second spike on top of the first is seen, values are meanwhile compared with the episode's own
last 32. After `accept_after` steps (twice that while it is recovering) the new level is taken for normal.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from configs.schema import MonitorConfig
from train.spikes.detectors import Baseline, Shift, Trend

FROZEN_AFTER = 8
SETTLED, SETTLED_Z = (8, 32), (1.5, 1.0)  # values and deviations: after a short, after a long episode
ISOLATED, SHORT = 2, 8
FALLEN = 0.75
TREND_SAID_EVERY = 8  # blocks of 32 steps
FAULTS = ("non_finite", "not_positive", "frozen")
ALARMS = (*FAULTS, "outlier", "shift", "never_recovering", "slow_divergence")
NEWS = ("recovering", "recovered", "accepted")


@dataclass(frozen=True)
class Verdict:
    """One thing the monitor has to say. `kind` is one of `ALARMS` or `NEWS`, `signal` such as `loss/imagenet`.

    `score` is in robust deviations. `since` is the step at which the episode began; `nature` names a whole episode:
    `recovered` at step 640 since 601 by nature `spike` means that steps 601 to 639 were out and 640 was not.
    """

    step: int
    signal: str
    kind: str
    value: float
    score: float | None = None
    since: int | None = None
    nature: str | None = None

    @property
    def steps(self) -> range:
        """The steps involved, whose samples are worth a look."""
        first = self.step if self.since is None else self.since
        return range(first, max(self.step + (self.kind != "recovered"), first + 1))

    def message(self) -> str:
        """One line for people."""
        score = f" ({self.score:+.1f} robust deviations)" if self.score is not None else ""
        since = f", since step {self.since}" if self.since is not None and self.since != self.step else ""
        nature = f" from: {self.nature.replace('_', ' ')}" if self.nature else ""
        kind = self.kind.replace("_", " ")
        return f"{self.signal}: {kind}{nature} at step {self.step}: {self.value:.6g}{score}{since}"


@dataclass
class Episode:
    """What is remembered from a first flagged value until the series is back. `healthy` is the frozen baseline."""

    since: int
    nature: str | None
    healthy: list[float]
    kept: int = 32
    tail: list[tuple[int, float]] = field(default_factory=list)  # (step, log) of the last `kept` finite values
    values: int = 0
    out: int = 0  # values from the first to the last that stood out
    peak: float = -math.inf

    def add(self, step: int, log: float, stands_out: bool) -> None:
        """Take in one finite value."""
        self.tail = [*self.tail[-(self.kept - 1) :], (step, log)]
        self.values += 1
        if stands_out:
            self.out = self.values

    def fault(self) -> None:
        """Take in a value without a logarithm."""
        self.tail = []
        self.values += 1
        self.out = self.values


@dataclass
class Detector:
    """Watches one series. `watches_level`: shifts and trends count, not outliers alone (losses)."""

    signal: str
    config: MonitorConfig
    watches_level: bool
    last: float | None = None
    same: int = 0
    episode: Episode | None = None
    trend: Trend = field(default_factory=Trend)
    rising_since: int | None = None
    blocks_said: int = 0

    def __post_init__(self) -> None:
        """Empty windows."""
        self.window = Baseline(self.config.window)
        self.healthy = self.window  # another object only while an episode has a window of its own
        self.shift = Shift()

    @property
    def judges(self) -> bool:
        """False during the first `warmup` values."""
        return len(self.window) >= self.config.warmup

    @property
    def unresolved(self) -> str | None:
        """What is wrong now."""
        if self.episode:
            return self.episode.nature or "outlier"
        return "slow_divergence" if self.rising_since is not None else None

    def observe(self, step: int, value: float, threshold: float) -> list[Verdict]:
        """Judge one value; an outlier lies more than `threshold` deviations above the baseline."""
        self.same = self.same + 1 if value == self.last else 1
        self.last = value if math.isfinite(value) else None
        fault = self._fault(value)
        if fault:
            return self._take_fault(step, value, fault)
        log = math.log(value)
        if not self.judges and not self.episode:
            self.window.admit(log)
            return []
        z = self.window.z(log) if self.judges else 0.0
        if self.episode:
            return self._continue(self.episode, step, value, z > threshold)
        shifted = self.watches_level and self.shift.judge(self.window.level_z(log) if self.judges else 0.0)
        if z > threshold or shifted:
            kind = "outlier" if z > threshold else "shift"
            self.episode = Episode(step, None if kind == "outlier" else "shift", list(self.window.values), self._kept)
            self.episode.add(step, log, True)
            return [Verdict(step, self.signal, kind, value, z, step)]
        self.window.admit(log)
        return self._judge_trend(step, value) if self.watches_level else []

    @property
    def _kept(self) -> int:
        return max(self.config.reseed_after, SETTLED[1])

    def _fault(self, value: float) -> str | None:
        if not math.isfinite(value):
            return "non_finite"
        if value <= 0:
            return "not_positive"
        return "frozen" if self.same >= FROZEN_AFTER else None

    def _take_fault(self, step: int, value: float, fault: str) -> list[Verdict]:
        """Every step of a fault is reported, up to 8 in a row; after that each 32nd."""
        if self.episode is None:
            self.episode = Episode(step, fault, list(self.window.values), self._kept)
        self.episode.nature = fault
        self.episode.fault()
        lasted = self.episode.values
        if lasted > FROZEN_AFTER and lasted % self.config.reseed_after:
            return []
        return [Verdict(step, self.signal, fault, value, since=self.episode.since)]

    def _continue(self, episode: Episode, step: int, value: float, outlier: bool) -> list[Verdict]:
        """Judge a finite value inside an episode."""
        log = math.log(value)
        judged = len(self.healthy) >= self.config.warmup
        z = self.healthy.z(log) if judged else 0.0
        episode.add(step, log, outlier or z > self.config.threshold)
        verdicts = [Verdict(step, self.signal, "outlier", value, z, episode.since)] if outlier else []
        if self._is_back(episode, judged):
            return [*verdicts, self._close(episode, value, z)]
        if episode.values >= self.config.accept_after * (2 if episode.nature == "recovering" else 1):
            self.episode, self.healthy = None, self.window
            self.trend, self.rising_since, self.shift = Trend(), None, Shift()
            return [*verdicts, Verdict(step, self.signal, "accepted", value, z, episode.since, episode.nature)]
        if episode.values % self.config.reseed_after == 0 and self._is_still_out(episode):
            verdicts.append(self._name(episode, value, z))
            self.window = Baseline(self.config.window, (log for _, log in episode.tail))
        return verdicts

    def _is_back(self, episode: Episode, judged: bool) -> bool:
        long = episode.out > SHORT or episode.nature in ("shift", "recovering", "never_recovering")
        needed, limit = SETTLED[long], SETTLED_Z[long]
        last = [log for _, log in episode.tail[-needed:]]
        if len(last) < needed or episode.values - episode.out < (0 if episode.nature == "shift" else needed):
            return False
        return not judged or self.healthy.height(statistics.median(last)) < limit

    def _is_still_out(self, episode: Episode) -> bool:
        """False while it may be on its way to being back: a short spike is not to be called a lasting one."""
        last = [log for _, log in episode.tail]
        settling = self.healthy.height(statistics.median(last[-SETTLED[0] :])) < SETTLED_Z[0] if last else True
        return len(last) == episode.kept and not settling

    def _close(self, episode: Episode, value: float, z: float) -> Verdict:
        """Name the episode, admit the values since it ended, and say at which step that was."""
        long = episode.out > SHORT or episode.nature in ("shift", "recovering", "never_recovering")
        settled = episode.tail[-SETTLED[long] :]
        length = episode.values - len(settled)
        nature = episode.nature or ("isolated" if length <= ISOLATED else "spike")
        self.window = self.healthy
        for _, log in settled:
            self.window.admit(log)
        self.episode, self.shift = None, Shift()
        return Verdict(settled[0][0], self.signal, "recovered", value, z, episode.since, nature)

    def _name(self, episode: Episode, value: float, z: float) -> Verdict:
        """`recovering` if the last 32 values have come down a quarter of the way from the highest 32."""
        height = statistics.fmean(log for _, log in episode.tail) - self.healthy.level()
        episode.peak = max(episode.peak, height)
        falling = height < FALLEN * episode.peak
        if episode.nature not in FAULTS:
            episode.nature = "recovering" if falling else "never_recovering"
        kind = "recovering" if falling else "never_recovering"
        return Verdict(episode.tail[-1][0], self.signal, kind, value, z, episode.since)

    def _judge_trend(self, step: int, value: float) -> list[Verdict]:
        rising = self.trend.judge(math.log(value), self.window)
        if rising is None or (not rising and self.rising_since is None):
            return []
        if not rising:
            since, self.rising_since = self.rising_since, None
            return [Verdict(step, self.signal, "recovered", value, None, since, "slow_divergence")]
        self.blocks_said = 0 if self.rising_since is None else self.blocks_said + 1
        self.rising_since = step if self.rising_since is None else self.rising_since
        if self.blocks_said % TREND_SAID_EVERY:
            return []
        return [Verdict(step, self.signal, "slow_divergence", value, None, self.rising_since)]

    def state(self) -> dict[str, Any]:
        """JSON-able state."""
        episode = None
        if self.episode:
            episode = asdict(self.episode) | {"peak": None if math.isinf(self.episode.peak) else self.episode.peak}
        return {
            "window": list(self.window.values),
            "recent": list(self.shift.recent),
            "last": self.last,
            "same": self.same,
            "episode": episode,
            "own_window": self.healthy is not self.window,
            "trend": self.trend.state(),
            "rising_since": self.rising_since,
            "blocks_said": self.blocks_said,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.window = self.healthy = Baseline(self.config.window, state["window"])
        self.shift = Shift()
        self.shift.recent.extend(state["recent"])
        self.last, self.same = state["last"], state["same"]
        self.trend = Trend.of(state["trend"])
        self.rising_since, self.blocks_said = state["rising_since"], state["blocks_said"]
        saved = state["episode"]
        self.episode = None
        if saved is not None:
            peak = -math.inf if saved["peak"] is None else saved["peak"]
            tail = [(step, log) for step, log in saved["tail"]]
            self.episode = Episode(**{**saved, "peak": peak, "tail": tail})
            if state["own_window"]:
                self.healthy = Baseline(self.config.window, saved["healthy"])
