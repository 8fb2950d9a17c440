"""The benchmark of the monitor measures what it says."""

from dataclasses import replace

import pytest

from train.benchmarks.spike_peers import PEERS, LlmFoundry, OlmoCore
from train.benchmarks.spike_scores import OURS, score_all
from train.benchmarks.spike_tables import peer_table, targets
from train.benchmarks.spike_traces import FAULT_AT, FAULTS, REGIMES, Reading, Trace
from train.benchmarks.spikes_live import judge


@pytest.fixture(scope="module")
def scores():
    return score_all([77])


def test_a_trace_is_the_same_each_time_and_the_fault_changes_nothing_before_it():
    healthy, faulty = Trace("heavy", 3), Trace("heavy", 3, FAULTS["never recovers"])
    pairs = list(zip(healthy.readings(FAULT_AT - 50), faulty.readings(FAULT_AT - 50), strict=False))
    assert all(a == b for a, b in pairs[:50])
    assert pairs[50][1].loss == pytest.approx(6.7 * pairs[50][0].loss)


@pytest.mark.slow
def test_there_are_14_faults_in_4_regimes_and_every_rule_is_scored_on_all(scores):
    assert len(FAULTS) == 14
    assert set(scores) == {(rule, regime) for rule in (OURS, *PEERS) for regime in REGIMES}
    assert all(set(score.delays) == set(FAULTS) for score in scores.values())


@pytest.mark.slow
def test_all_targets_are_reached_on_a_seed_kept_for_this_test(scores):
    missed = [row for row in targets(scores) if not row[2]]
    assert missed == []


@pytest.mark.slow
def test_a_rule_that_sees_only_nan_would_fail_the_targets(scores):
    blind = {(OURS, regime): replace(scores["Megatron", regime], named=1) for regime in REGIMES}
    failed = {what for what, _, reached in targets(blind) if not reached}
    assert {"poison x3", "rate ramp", "slow +0.1 %", "still alarming at step 300 of a plateau"} <= failed


@pytest.mark.slow
def test_the_published_rules_show_what_is_known_of_them(scores):
    assert scores["OLMo-core", "gaussian"].flagged_after_nan == 128
    assert scores["Megatron", "gaussian"].delays["poison x6"] == [None]
    assert scores["metaseq", "bimodal"].false_alarm_rate > 1000, "one average over two sources"
    assert "OLMo-core" in peer_table(scores)


def test_rules_keep_in_their_windows_what_they_are_said_to_keep():
    olmo, foundry = OlmoCore(), LlmFoundry()
    flags = [olmo.alarms(Reading(n, {"a": 1 + 0.01 * (n % 7)}, 1 + 0.01 * (n % 5))) for n in range(200)]
    assert not any(flags)
    jump = [olmo.alarms(Reading(n, {"a": 6.7 + 0.01 * (n % 7)}, 1.0)) for n in range(200, 500)]
    assert sum(jump) < 10, "its window takes the new level in and is silent"
    for n in range(600):
        assert not foundry.alarms(Reading(n, {"a": 1.0}, 1.0))
    assert [foundry.alarms(Reading(n, {"a": 2.5}, 1.0)) for n in range(6)] == [False] * 4 + [True] * 2


def cell(loss, **more):
    return {"loss": loss, "missed": 0, "rollbacks": 0, "stopped": None} | more


@pytest.mark.parametrize(("saved", "reached"), [(0.12, True), (0.2, False), (None, False)])
def test_a_live_run_counts_only_where_doing_nothing_ruins_it(saved, reached):
    results = {
        "none": {"nothing": cell(0.1), "escalate": cell(0.1)},
        "harmless": {"nothing": cell(0.3), "escalate": cell(9.0)},
        "fatal": {"nothing": cell(None), "escalate": cell(saved, rollbacks=1)},
    }
    table, _, passed = judge(results)
    assert passed is reached
    assert "NaN" in table
