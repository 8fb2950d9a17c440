"""What follows from which alert."""

import doctest
import json
import math

import pytest

from configs.errors import ConfigError
from configs.training import MonitorConfig
from train.spikes import policy
from train.spikes.alerts import Alert
from train.spikes.monitor import SpikeMonitor
from train.spikes.policy import REJECT_STEP, Decision, SpikePolicy

BAD = [Alert(200, "loss/a", "not_recovering", 6.7, 9.0, since=168)]
NOISE = [Alert(200, "loss/a", "outlier", 6.7, 9.0, since=200), Alert(200, "grad_norm/a", "not_recovering", 1.0)]


def acting(action: str, **settings: object) -> SpikePolicy:
    return SpikePolicy(MonitorConfig(action=action, **settings))


def monitor() -> SpikeMonitor:
    made = SpikeMonitor(MonitorConfig())
    for step in range(64):
        made.observe(step, {"a": 1 + 0.1 * (step % 5)}, 2 + 0.1 * (step % 3))
    return made


@pytest.mark.parametrize("action", ["log", "skip", "rollback", "rollback_lr", "stop", "escalate"])
def test_an_outlier_and_a_healthy_step_call_for_nothing_more(action):
    assert acting(action).decide(200, NOISE, applied=True) == Decision()
    assert acting(action).decide(200, [], applied=True) == Decision()


@pytest.mark.parametrize(
    ("action", "kind", "lower"),
    [("log", "none", 0), ("skip", "none", 0), ("rollback", "rollback", 0), ("rollback_lr", "rollback", 1),
     ("stop", "stop", 0), ("escalate", "rollback", 0)],
)  # fmt: skip
def test_lasting_trouble_brings_what_was_configured(action, kind, lower):
    decision = acting(action).decide(200, BAD, applied=True)
    assert (decision.kind, decision.lower_rate) == (kind, bool(lower))
    assert kind == "none" or decision.since == 168


def test_escalation_lowers_the_rate_at_its_second_rollback_and_stops_when_the_budget_is_spent():
    policy = acting("escalate", max_rollbacks=3, rewarm_steps=0)
    seen = []
    for _ in range(4):
        decision = policy.decide(200, BAD, applied=True)
        seen.append((decision.kind, policy.lr_scale(100)))
        if decision.kind == "rollback":
            policy.rolled_back(100, decision, 0)
    assert seen == [("rollback", 1.0), ("rollback", 1.0), ("rollback", 0.5), ("stop", 0.25)]
    assert "monitor.max_rollbacks 3 were used" in decision.reason


@pytest.mark.parametrize(("action", "then"), [("log", "stop"), ("skip", "stop"), ("escalate", "rollback")])
def test_skips_in_a_row_have_a_limit_and_other_skips_have_none(action, then):
    acts = acting(action, max_skips=3)
    for step in range(1, 20):
        assert acts.decide(step, [], applied=step % 2 == 0).kind == "none"
    kinds = [acts.decide(step, [], applied=False) for step in range(20, 23)]
    assert [decision.kind for decision in kinds] == ["none", "none", then]
    assert kinds[-1].since == 19


def test_a_batch_that_is_always_an_outlier_is_learnt_in_the_end():
    """Every tenth batch holds a hard sample: skipped 3 times, then made; outliers in a row are still all skipped."""
    acts, watching = acting("skip", max_skips=3), monitor()
    hard = []
    for step in range(64, 124):
        is_outlier = step % 10 == 0
        limit = acts.max_accepted_norm(watching, {"a": 99.0 if is_outlier else 1.2})
        hard += [limit] if is_outlier else []
        acts.decide(step, [], applied=limit > 2)
    assert hard == [REJECT_STEP] * 3 + [math.inf] * 3
    assert acts.max_accepted_norm(watching, {"a": math.nan}) == REJECT_STEP
    acts.decide(124, [], applied=False)
    assert acts.max_accepted_norm(watching, {"a": 99.0}) == REJECT_STEP, "next to another"
    acts.decide(125, [], applied=True)
    acts.decide(260, [], applied=True)
    assert acts.max_accepted_norm(watching, {"a": 99.0}) == REJECT_STEP, "those skips are long ago"


def test_only_skipping_actions_close_the_gate_on_outliers_and_all_close_it_on_nan():
    watching = monitor()
    for action in ("log", "rollback", "stop"):
        assert acting(action).max_accepted_norm(watching, {"a": 99.0}) == math.inf
        assert acting(action).max_accepted_norm(watching, {"a": math.nan}) == REJECT_STEP
    for action in ("skip", "escalate"):
        assert acting(action).max_accepted_norm(watching, {"a": 99.0}) == REJECT_STEP
        assert 2.2 < acting(action).max_accepted_norm(watching, {"a": 1.2}) < 4
        assert acting(action).max_accepted_norm(SpikeMonitor(MonitorConfig()), {"a": 99.0}) == math.inf, (
            "nothing is known"
        )


def test_the_rate_rises_again_after_a_rollback():
    acts = acting("rollback_lr", rewarm_steps=4, lr_backoff=0.5)
    assert acts.lr_scale(50) == 1.0
    acts.rolled_back(100, Decision("rollback", lower_rate=True), 2)
    assert [acts.lr_scale(step) for step in (100, 101, 103, 104, 900)] == [0.125, 0.25, 0.5, 0.5, 0.5]


def test_the_state_goes_through_a_checkpoint():
    acts = acting("escalate", rewarm_steps=4)
    acts.decide(7, [], applied=False)
    acts.rolled_back(100, Decision("rollback", lower_rate=True), 2)
    other = acting("escalate", rewarm_steps=4)
    other.load_state_dict(json.loads(json.dumps(acts.state_dict())))
    assert (other.state, other.lr_scale(101)) == (acts.state, acts.lr_scale(101))


def test_an_action_needs_a_monitor():
    with pytest.raises(ConfigError, match="set it true"):
        MonitorConfig(enabled=False, action="skip")


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(policy).failed == 0
    assert doctest.testmod(policy).attempted >= 3
