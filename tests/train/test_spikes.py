"""What the monitor says, and what it does not."""

import json
import math
import random

import pytest

from configs.schema import MonitorConfig
from train.spikes import SpikeMonitor

CONFIG = MonitorConfig(window=64, warmup=16, reseed_after=20)


def noise(step: int, spread: float = 0.03) -> float:
    return math.exp(random.Random(step).gauss(0, spread))


def watch(values: list[float], monitor: SpikeMonitor | None = None, start: int = 0) -> list[tuple[int, str]]:
    monitor = monitor or SpikeMonitor(CONFIG)
    seen = []
    for step, value in enumerate(values, start):
        seen += [(v.step, v.kind) for v in monitor.observe(step, {"imagenet": value}, 1.0 + 0.01 * (step % 7))]
    return seen


def test_a_healthy_run_raises_no_alarm():
    assert watch([2 * (step + 1) ** -0.1 * noise(step) for step in range(2000)]) == []


def test_an_isolated_outlier_is_flagged_at_once_and_recovers_next_step():
    values = [noise(step) for step in range(100)]
    values[60] *= 3
    assert watch(values) == [(60, "outlier"), (61, "recovered")]


def test_a_second_spike_is_not_masked_by_a_first():
    values = [noise(step) for step in range(120)]
    values[60] *= 8
    values[80] *= 2
    assert [kind for step, kind in watch(values) if step in (60, 80)] == ["outlier", "outlier"]


def test_a_run_that_never_recovers_keeps_alarming_and_then_is_called_lasting():
    values = [noise(step) for step in range(60)] + [6.7 * noise(step) for step in range(60, 120)]
    verdicts = watch(values)
    assert [step for step, kind in verdicts if kind == "outlier"] == list(range(60, 80))
    assert (79, "lasting_change") in verdicts


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_is_named_and_does_not_blind_the_monitor(value):
    values = [noise(step) for step in range(100)]
    values[50], values[51] = value, 9.0
    assert watch(values) == [(50, "non_finite"), (51, "outlier"), (52, "recovered")]


def test_zero_and_frozen_losses_are_named():
    values = [noise(step) for step in range(40)]
    assert (40, "not_positive") in watch([*values, 0.0])
    assert [kind for _, kind in watch([*values, *[1.0] * 12])] == ["frozen"]


def test_each_source_has_its_own_baseline():
    """Alternating sources of losses 0.2 and 2: one detector over both would see outliers or go blind."""
    monitor, verdicts = SpikeMonitor(CONFIG), []
    for step in range(200):
        source, level = (("imagenet", 0.2), ("llava", 2.0))[step % 2]
        value = level * noise(step) * (4 if step == 150 else 1)
        verdicts += monitor.observe(step, {source: value}, None)
    assert (verdicts[0].step, verdicts[0].signal, verdicts[0].kind) == (150, "loss/imagenet", "outlier")
    assert {v.kind for v in verdicts} == {"outlier", "recovered"}


def test_the_gradient_norm_is_watched_too():
    monitor = SpikeMonitor(CONFIG)
    verdicts = [monitor.observe(step, {}, noise(step) * (50 if step == 90 else 1)) for step in range(100)]
    assert [v.signal for v in verdicts[90]] == ["grad_norm"]


def test_the_state_goes_through_a_checkpoint():
    values = [noise(step) for step in range(100)]
    values[70] *= 4
    straight = watch(values)
    first, second = SpikeMonitor(CONFIG), SpikeMonitor(CONFIG)
    before = watch(values[:71], first)
    second.load(json.loads(json.dumps(first.state())))
    assert before + watch(values[71:], second, start=71) == straight


def test_a_monitor_that_is_off_says_nothing():
    assert watch([1.0] * 50 + [math.nan], SpikeMonitor(MonitorConfig(enabled=False))) == []
