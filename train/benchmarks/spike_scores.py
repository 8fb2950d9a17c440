"""Detection scores of every rule on every fault of `train.benchmarks.spike_traces`.

False alarms are counted on a healthy trace of 10,000 steps. Each fault is then added to the same noise from step 6,000
on, with a copy of every rule's state at that step. A fault is detected if there is an alarm within `horizon` steps of
its beginning. For slowly rising faults ours must raise an alarm about the level (an outlier by chance does not count),
while any alarm counts for a peer. A plateau must be reported again within the 64 steps after its 300th: ours reports
every 32 steps of a source, and two sources alternate.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from configs.training import MonitorConfig
from train.benchmarks.spike_peers import PEERS, Rule
from train.benchmarks.spike_traces import FAULT_AT, FAULTS, REGIMES, Fault, Reading, Trace
from train.spikes.alerts import ALARMS, Alert
from train.spikes.monitor import SpikeMonitor

OURS = "ours"
PLATEAU = range(300, 364)  # ages at which a level that never recovers must still be reported
AFTER_NAN = range(1, 129)


@dataclass
class Ours:
    """Our monitor as a rule; stores its alerts."""

    monitor: SpikeMonitor = field(default_factory=lambda: SpikeMonitor(MonitorConfig()))
    alerts: list[Alert] = field(default_factory=list)

    def alarms(self, reading: Reading) -> bool:
        """True if the step has an alert that is an alarm."""
        alerts = self.monitor.observe(reading.step, reading.losses, reading.grad_norm)
        self.alerts += alerts
        return any(alert.kind in ALARMS for alert in alerts)

    def level_alarms(self) -> list[int]:
        """Steps of the alarms about a level, not about one value."""
        return [alert.step for alert in self.alerts if alert.kind in ALARMS and alert.kind != "outlier"]

    def recovered(self) -> bool:
        """True if at the end no episode is open and no new level was accepted as normal."""
        return not self.monitor.unresolved() and all(alert.kind != "accepted" for alert in self.alerts)


def horizon(fault: Fault) -> int:
    """Steps after its beginning within which an alarm counts for the fault."""
    if fault.most_delay is None:
        return 200
    return 2500 if fault.most_delay > 100 else 2 * fault.most_delay + 30


@dataclass
class Score:
    """One rule in one regime, over all seeds. `delays` maps a fault to one entry per seed, None if undetected."""

    false_alarms: int = 0
    healthy_steps: int = 0
    delays: dict[str, list[int | None]] = field(default_factory=dict)
    flagged_after_nan: int = 0
    still_alarming: int = 0
    named_right: int = 0
    named: int = 0

    @property
    def false_alarm_rate(self) -> float:
        """Alarms per 10,000 healthy steps."""
        return 10_000 * self.false_alarms / self.healthy_steps


Scores = dict[tuple[str, str], Score]
"""(rule, regime) to score."""


def score_all(seeds: Iterable[int], regimes: Iterable[str] = REGIMES) -> Scores:
    """Every rule on every fault; about a minute for 4 regimes and 5 seeds."""
    seeds = list(seeds)
    scores = {(rule, regime): Score() for rule in (OURS, *PEERS) for regime in regimes}
    for regime in regimes:
        for seed in seeds:
            _score_seed(scores, regime, seed)
    return scores


def _rules() -> dict[str, Rule]:
    return {OURS: Ours()} | {name: rule() for name, rule in PEERS.items()}


def _alarms(rules: dict[str, Rule], readings: Iterable[Reading]) -> dict[str, list[int]]:
    alarms: dict[str, list[int]] = {name: [] for name in rules}
    for reading in readings:
        for name, rule in rules.items():
            if rule.alarms(reading):
                alarms[name].append(reading.step)
    return alarms


def _score_seed(scores: Scores, regime: str, seed: int) -> None:
    rules = _rules()
    readings = list(Trace(regime, seed).readings())
    before = _alarms(rules, readings[:FAULT_AT])
    state_at_fault = copy.deepcopy(rules)
    after = _alarms(rules, readings[FAULT_AT:])
    for name in rules:
        score = scores[name, regime]
        score.false_alarms += len(before[name]) + len(after[name])
        score.healthy_steps += len(readings)
    for fault_name, fault in FAULTS.items():
        rules = copy.deepcopy(state_at_fault)
        alarms = _alarms(rules, Trace(regime, seed, fault).readings(FAULT_AT))
        for name, rule in rules.items():
            _score_fault(scores[name, regime], fault_name, rule, alarms[name], set(after[name]))


def _score_fault(score: Score, name: str, rule: Rule, alarms: list[int], by_chance: set[int]) -> None:
    fault = FAULTS[name]
    seen = alarms
    if isinstance(rule, Ours):
        rule.alerts = [alert for alert in rule.alerts if alert.step >= FAULT_AT]
        seen = rule.level_alarms() if fault.creeping else alarms
        score.named += 1
        score.named_right += rule.recovered() == fault.recovers
    delays = [_delay(seen, FAULT_AT + age, horizon(fault)) for age in fault.at]
    worst = None if None in delays else max(delay for delay in delays if delay is not None)
    score.delays.setdefault(name, []).append(worst)
    ages = {step - FAULT_AT for step in alarms if step not in by_chance}
    if name == "NaN once":
        score.flagged_after_nan += len(ages & set(AFTER_NAN))
    if name == "never recovers":
        score.still_alarming += bool({step - FAULT_AT for step in alarms} & set(PLATEAU))


def _delay(alarms: list[int], due: int, limit: int) -> int | None:
    return next((step - due for step in alarms if due <= step <= due + limit), None)
