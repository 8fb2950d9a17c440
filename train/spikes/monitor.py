"""The loss-spike monitor: pure Python from numbers to alerts; its state is saved in checkpoints.

Each data source has its own detector, because one source may spike alone, and because sources have different losses: a
common baseline would raise an alarm at every change of the mixture. For the same reason the gradient norm and the size
of the update have one detector for each set of sources that occur together in a batch. What counts as an outlier, a
shift or a trend is in `train.spikes.detectors`, what follows one in `train.spikes.series` and `train.spikes.episodes`.

    monitor = SpikeMonitor(config.monitor)
    for alert in monitor.observe(step=601, losses={"imagenet": 6.7, "llava": 1.1}, grad_norm=40.2):
        print(alert.message())    # loss/imagenet: outlier at step 601: 6.7 (+24.1 robust deviations)

Loss and norm are also tested together: if both exceed half the threshold (4) in one step, both are outliers; two
independent t3 values do so once in 10,000 steps. A norm alone is an outlier at 7/8 of the threshold (7): its log is
noisier than the loss's but has no heavy tail. The tests before an update (`loss_is_outlier`, `outlier_norm`) are
stricter: the loss or the norm alone must exceed its threshold. A hard but correct sample raises both a little; if it
were skipped each time, it would never be learnt.

Background: "Why are Visually-Grounded Language Models Bad at Image Classification?", Section 3.3 and Figure 5.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from configs.training import MonitorConfig
from train.spikes.alerts import Alert
from train.spikes.series import Detector

GRAD_NORM = "grad_norm"
UPDATE = "update_rms"
JOINT = 0.5
NORM = 0.875


class SpikeMonitor:
    """The detectors of a run. Every rank has a monitor and gives it the same all-reduced numbers."""

    def __init__(self, config: MonitorConfig):
        """No history."""
        self.config = config
        self.detectors: dict[str, Detector] = {}

    def observe(
        self, step: int, losses: Mapping[str, float], grad_norm: float | None, update_rms: float | None = None
    ) -> list[Alert]:
        """Test one step: mean loss of each source in the batch, global gradient norm, root mean square of the update.

        An update of 0 is not tested: the first step of a warm-up has one.
        """
        if not self.config.enabled:
            return []
        values = {f"loss/{source}": loss for source, loss in losses.items()}
        if grad_norm is not None:
            values[_of_sources(GRAD_NORM, losses)] = grad_norm
        if update_rms:
            values[_of_sources(UPDATE, losses)] = update_rms
        joint_outlier = self._both_exceed(values)
        alerts: list[Alert] = []
        for signal, value in values.items():
            alerts += self._detector(signal).observe(step, value, self._threshold(signal, joint_outlier))
        return alerts

    def loss_is_outlier(self, losses: Mapping[str, float]) -> bool:
        """True if a source's loss is an outlier. Called before the update; does not change the monitor's state."""
        return any(self._z(f"loss/{source}", loss) > self.config.threshold for source, loss in losses.items())

    def outlier_norm(self, losses: Mapping[str, float]) -> float:
        """The smallest gradient norm of a batch of these sources that is an outlier; infinite without a baseline."""
        detector = self.detectors.get(_of_sources(GRAD_NORM, losses))
        if not self.config.enabled or detector is None or not detector.has_baseline:
            return math.inf
        return math.exp(detector.window.log_at(self._threshold(GRAD_NORM, joint_outlier=False)))

    def unresolved(self) -> dict[str, str]:
        """Signal to the kind of its open episode: `not_recovering`, `slow_divergence`, `non_finite` and so on."""
        return {signal: kind for signal, detector in self.detectors.items() if (kind := detector.unresolved)}

    def state_dict(self) -> dict[str, Any]:
        """JSON-able state of all detectors, for the checkpoint."""
        return {signal: detector.state_dict() for signal, detector in self.detectors.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; replaces the current state."""
        self.detectors.clear()
        for signal, saved in state.items():
            self._detector(signal).load_state_dict(saved)

    def _detector(self, signal: str) -> Detector:
        if signal not in self.detectors:
            self.detectors[signal] = Detector(signal, self.config, watches_level=signal.startswith("loss/"))
        return self.detectors[signal]

    def _threshold(self, signal: str, joint_outlier: bool) -> float:
        """Deviations above which a value is an outlier; `joint_outlier`: loss and norm both exceed `JOINT`."""
        if signal.startswith("loss/"):
            return self.config.threshold * (JOINT if joint_outlier else 1.0)
        return self.config.threshold * (JOINT if joint_outlier and signal.startswith(GRAD_NORM) else NORM)

    def _both_exceed(self, values: Mapping[str, float]) -> bool:
        joint = self.config.threshold * JOINT
        kinds = {signal.split("/")[0] for signal, value in values.items() if self._z(signal, value) > joint}
        return {"loss", GRAD_NORM} <= kinds

    def _z(self, signal: str, value: float) -> float:
        detector = self.detectors.get(signal)
        if detector is None or not detector.has_baseline or not math.isfinite(value) or value <= 0:
            return 0.0
        return detector.window.z(math.log(value))


def _of_sources(signal: str, sources: Iterable[str]) -> str:
    """`grad_norm/imagenet+llava`: batches of different sources have different norms."""
    return "/".join(filter(None, (signal, "+".join(sorted(sources)))))
