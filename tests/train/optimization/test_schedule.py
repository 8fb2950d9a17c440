"""Learning-rate schedules."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from configs.errors import ConfigError
from configs.training import OptimConfig
from train.optimization.schedule import check_warmup, lr_factor, warmup_steps


@pytest.mark.parametrize("total", [1, 10, 333])
@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.5])
def test_the_rate_is_transformers_cosine_with_warm_up(total, ratio):
    optim = OptimConfig(warmup_ratio=ratio)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, warmup_steps(total, optim), total)
    for step in range(total):
        assert lr_factor(step, total, optim) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_a_constant_schedule_stays_at_its_peak_after_warm_up():
    optim = OptimConfig(schedule="constant", warmup_ratio=0.1)
    assert [lr_factor(step, 20, optim) for step in (0, 1, 2, 19)] == [0.0, 0.5, 1.0, 1.0]


def test_warm_up_in_steps_takes_the_place_of_the_ratio():
    optim = OptimConfig(warmup_ratio=0.5, warmup_steps=4)
    assert [lr_factor(step, 100, optim) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert lr_factor(0, 100, OptimConfig(warmup_ratio=0.5, warmup_steps=0)) == 1.0


def test_a_run_that_ends_within_its_warm_up_is_refused_and_says_what_to_change():
    check_warmup(1001, OptimConfig(warmup_steps=1000))
    with pytest.raises(
        ConfigError, match=r"warmup_steps is 1,000 and the run has 1,000 steps.*set warmup_steps to null"
    ):
        check_warmup(1000, OptimConfig(warmup_steps=1000))
    check_warmup(2, OptimConfig(warmup_ratio=1.0))
