"""What the monitor says, and what it does not."""

import json
import math
import random

import pytest

from configs.training import MonitorConfig
from train.benchmarks.spike_tables import milliseconds_per_step
from train.spikes.alerts import Alert
from train.spikes.monitor import SpikeMonitor

CONFIG = MonitorConfig(window=64, warmup=16, rebaseline_after=32)


def noise(step: int, spread: float = 0.03) -> float:
    return math.exp(random.Random(step).gauss(0, spread))


def alerts(values: list[float], monitor: SpikeMonitor | None = None, start: int = 0) -> list[Alert]:
    monitor = monitor or SpikeMonitor(CONFIG)
    seen = []
    for step, value in enumerate(values, start):
        seen += monitor.observe(step, {"imagenet": value}, 1.0 + 0.01 * (step % 7))
    return seen


def watch(values: list[float], monitor: SpikeMonitor | None = None, start: int = 0) -> list[tuple[int, str]]:
    return [(v.step, v.kind) for v in alerts(values, monitor, start)]


def test_a_healthy_run_raises_no_alarm():
    assert watch([2 * (step + 1) ** -0.1 * noise(step) for step in range(2000)]) == []


def falling(step: int, spread: float) -> float:
    """A tiny model learning by heart: from 8 to 0.01 within 150 steps, then flat."""
    return max(8 * math.exp(-step / 22), 0.01) * noise(step, spread)


COLLAPSE = [0.9, 2.5, 4.0, 6.0, 7.6, 5.0, 4.0, 3.5]


@pytest.mark.parametrize("healthy", [2, 5, 12, 20, 30])
@pytest.mark.parametrize("level", [1.0, 3.0])
def test_a_collapse_before_there_is_a_baseline_is_a_shift_by_the_end_of_the_warm_up_and_does_not_recover(
    healthy, level
):
    values = [0.22 * noise(step) for step in range(healthy)] + COLLAPSE
    values += [level * noise(step, 0.1) for step in range(200)]
    config = MonitorConfig()
    found = alerts(values, SpikeMonitor(config))
    assert found[0].kind == ("shift" if healthy < 30 else "outlier")
    assert found[0].step <= max(config.warmup, healthy + 2)
    assert abs(found[0].since - healthy) <= 2
    assert "not_recovering" in {alert.kind for alert in found}
    assert "recovered" not in {alert.kind for alert in found}


def test_a_collapse_in_the_warm_up_that_comes_back_is_recovered():
    values = [0.22 * noise(step) for step in range(8)] + COLLAPSE + [3.0 * noise(step) for step in range(8)]
    values += [0.21 * noise(step) for step in range(80)]
    kinds = [kind for _, kind in watch(values, SpikeMonitor(MonitorConfig()))]
    assert (kinds[0], kinds[-1]) == ("shift", "recovered")


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_noise_alone_is_no_early_rise(spread):
    for seed in range(0, 40_000, 200):
        assert watch([2 * noise(seed + step, spread) for step in range(32)], SpikeMonitor(MonitorConfig())) == []


def test_a_checkpoint_between_the_first_steps_and_their_rise_changes_nothing():
    values = [0.22] * 6 + COLLAPSE + [3.0 * noise(step) for step in range(60)]
    straight = watch(values, SpikeMonitor(MonitorConfig()))
    for cut in (4, 9, 13, 30):
        before, after = SpikeMonitor(MonitorConfig()), SpikeMonitor(MonitorConfig())
        head = watch(values[:cut], before)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert head + watch(values[cut:], after, cut) == straight


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.5])
def test_a_steep_fall_and_its_sudden_end_raise_no_alarm(spread):
    assert watch([falling(step, spread) for step in range(600)], SpikeMonitor(MonitorConfig())) == []


@pytest.mark.parametrize("at", [60, 100, 140, 200])
def test_while_the_loss_falls_by_orders_of_magnitude_a_jump_back_up_is_seen_at_once(at):
    values = [falling(step, 0.1) if step < at else 8 * noise(step, 0.1) for step in range(300)]
    seen = alerts(values, SpikeMonitor(MonitorConfig()))
    assert (seen[0].step, seen[0].kind) == (at, "outlier")
    assert "recovered" not in {v.kind for v in seen}
    assert any(v.kind == "not_recovering" for v in seen)


def test_back_means_back_at_the_level_of_late_not_at_the_window_s_median():
    """At step 140 the loss is 0.014, the median of the window 0.3: a loss of 0.2 after a spike is no recovery."""
    values = [
        falling(step, 0.1) if step < 140 else (8 if step < 150 else 0.2) * noise(step, 0.1) for step in range(400)
    ]
    kinds = [v.kind for v in alerts(values, SpikeMonitor(MonitorConfig()))]
    assert "recovered" not in kinds
    assert "not_recovering" in kinds


def test_an_isolated_outlier_is_flagged_at_once_and_named_when_it_is_over():
    values = [noise(step) for step in range(100)]
    values[60] *= 3
    assert watch(values) == [(60, "outlier"), (61, "recovered")]
    assert [v.episode_kind for v in alerts(values) if v.kind == "recovered"] == ["isolated"]


def test_a_second_spike_is_not_masked_by_a_first():
    values = [noise(step) for step in range(120)]
    values[60] *= 8
    values[80] *= 2
    assert [kind for step, kind in watch(values) if step in (60, 80)] == ["outlier", "outlier"]


@pytest.mark.parametrize(("steps", "kind"), [(2, "isolated"), (10, "spike")])
def test_an_episode_is_named_by_its_length_and_says_which_steps_it_was(steps, kind):
    values = [noise(step) * (3 if 60 <= step < 60 + steps else 1) for step in range(150)]
    end = alerts(values)[-1]
    assert (end.kind, end.episode_kind, end.steps) == ("recovered", kind, range(60, 60 + steps))


def test_a_shift_is_dated_from_its_first_step_although_it_is_said_at_the_third():
    values = [noise(step, 0.1) * (1.9 if step >= 100 else 1) for step in range(140)]
    first = alerts(values, SpikeMonitor(MonitorConfig()))[0]
    assert (first.kind, first.step, first.since, first.steps) == ("shift", 102, 100, range(100, 103))


def test_a_spike_that_falls_slowly_is_recovering_and_in_the_end_recovered():
    values = [noise(step) * (1 + 4 * math.exp((100 - step) / 100) * (step >= 100)) for step in range(900)]
    kinds = [v.kind for v in alerts(values) if v.kind != "outlier"]
    assert "recovering" in kinds
    assert kinds[-1] == "recovered"


def test_a_fall_that_ends_above_the_old_level_is_not_recovering_again():
    values = [noise(step) * (1.5 + 6 * math.exp((100 - step) / 40) if step >= 100 else 1) for step in range(700)]
    named = [v.kind for v in alerts(values) if v.kind in ("recovering", "not_recovering", "recovered")]
    assert named[:2] == ["not_recovering", "recovering"]
    assert named[-3:] == ["not_recovering"] * 3


def test_a_level_that_never_recovers_keeps_alarming_and_is_one_day_taken_for_normal():
    values = [noise(step) for step in range(60)] + [6.7 * noise(step) for step in range(60, 1200)]
    seen = alerts(values)
    assert seen[0].step == 60
    assert [v.step for v in seen if v.kind == "not_recovering"][:3] == [91, 123, 155]
    assert (seen[-1].kind, seen[-1].episode_kind) == ("accepted", "not_recovering")
    assert seen[-1].step == 60 + CONFIG.accept_after - 1


def test_a_spike_on_top_of_a_spike_is_seen():
    values = [noise(step) * (5 if step >= 100 else 1) * (4 if step == 180 else 1) for step in range(200)]
    assert (180, "outlier") in watch(values)


def test_a_divergence_too_slow_for_any_step_to_stand_out_is_seen():
    values = [noise(step, 0.1) * 1.0005 ** max(0, step - 1500) for step in range(3000)]
    first = alerts(values, SpikeMonitor(MonitorConfig()))[0]
    assert first.kind == "slow_divergence"
    assert first.step < 1500 + 600


def test_loss_and_norm_vouch_for_each_other():
    """Neither reaches 8 deviations alone; together they are an outlier."""
    monitor = SpikeMonitor(CONFIG)
    for step in range(100):
        assert monitor.observe(step, {"a": noise(step, 0.1)}, noise(step + 10**6, 0.1)) == []
    five, short = (math.exp(monitor.detectors[s].window.log_at(5.0)) for s in ("loss/a", "grad_norm/a"))
    assert short < monitor.outlier_norm({"a": five}), "that is said, but no reason to skip the step"
    assert {v.kind for v in monitor.observe(100, {"a": five}, short)} == {"outlier"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_is_named_and_does_not_blind_the_monitor(value):
    values = [noise(step) for step in range(100)]
    values[50], values[51] = value, 9.0
    assert watch(values) == [(50, "non_finite"), (51, "outlier"), (52, "recovered")]
    values[51] = 1.0
    assert watch(values) == [(50, "non_finite"), (51, "recovered")]


def test_zero_and_frozen_losses_are_named():
    values = [noise(step) for step in range(40)]
    assert (40, "not_positive") in watch([*values, 0.0])
    frozen = watch([*values, *[1.0] * 60])
    assert {kind for _, kind in frozen} == {"frozen"}
    assert frozen[0][0] == 47, "the eighth of the same"
    assert len(frozen) == 9, "8 in a row, then every 32nd"


def test_each_source_has_its_own_baseline():
    """Alternating sources of losses 0.2 and 2: one detector over both would see outliers or go blind."""
    monitor, alerts = SpikeMonitor(CONFIG), []
    for step in range(200):
        source, level = (("imagenet", 0.2), ("llava", 2.0))[step % 2]
        value = level * noise(step) * (4 if step == 150 else 1)
        alerts += monitor.observe(step, {source: value}, None)
    assert (alerts[0].step, alerts[0].signal, alerts[0].kind) == (150, "loss/imagenet", "outlier")
    assert {v.kind for v in alerts} == {"outlier", "recovered"}
    assert monitor.unresolved() == {}


def test_the_gradient_norm_is_watched_too():
    monitor = SpikeMonitor(CONFIG)
    alerts = [monitor.observe(step, {}, noise(step) * (50 if step == 90 else 1)) for step in range(100)]
    assert [v.signal for v in alerts[90]] == ["grad_norm"]


def test_an_update_of_zero_is_no_alarm_and_a_large_one_is():
    monitor = SpikeMonitor(CONFIG)
    seen = [monitor.observe(s, {}, None, 0.0 if s == 0 else noise(s) * (50 if s == 90 else 1)) for s in range(91)]
    assert [v.signal for step in seen for v in step] == ["update_rms"]


def test_a_step_can_be_judged_before_it_is_taken_without_changing_anything():
    monitor = SpikeMonitor(CONFIG)
    assert monitor.outlier_norm({"a": 1.0}) == math.inf
    for step in range(50):
        monitor.observe(step, {"a": noise(step)}, noise(step))
    before = json.dumps(monitor.state_dict())
    assert monitor.loss_is_outlier({"a": 3.0})
    assert not monitor.loss_is_outlier({"a": 1.0})
    assert 1.1 < monitor.outlier_norm({"a": 1.0}) < 2
    assert json.dumps(monitor.state_dict()) == before


def test_a_step_costs_less_than_a_fifth_of_a_millisecond():
    assert milliseconds_per_step(1000) < 0.2


@pytest.mark.parametrize("cut", [71, 75, 130, 180])
def test_the_state_goes_through_a_checkpoint_at_any_point_of_an_episode(cut):
    values = [noise(step) for step in range(300)]
    values[70] *= 4
    values[73] = math.nan
    values[110:200] = [3 * value for value in values[110:200]]
    straight = watch(values)
    first, second = SpikeMonitor(CONFIG), SpikeMonitor(CONFIG)
    before = watch(values[:cut], first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert before + watch(values[cut:], second, start=cut) == straight
    assert second.state_dict() == first_after(values, first, cut)


def first_after(values: list[float], monitor: SpikeMonitor, cut: int) -> dict[str, object]:
    watch(values[cut:], monitor, start=cut)
    return monitor.state_dict()


def test_a_monitor_that_is_off_says_nothing():
    assert watch([1.0] * 50 + [math.nan], SpikeMonitor(MonitorConfig(enabled=False))) == []
