"""Learning-rate schedules."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from configs.training import OptimConfig
from train.optimization.schedule import lr_factor, warmup_steps


@pytest.mark.parametrize("total", [1, 10, 333])
@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.5])
def test_the_rate_is_transformers_cosine_with_warm_up(total, ratio):
    optim = OptimConfig(warmup_ratio=ratio)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, warmup_steps(total, ratio), total)
    for step in range(total):
        assert lr_factor(step, total, optim) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_a_constant_schedule_stays_at_its_peak_after_warm_up():
    optim = OptimConfig(schedule="constant", warmup_ratio=0.1)
    assert [lr_factor(step, 20, optim) for step in (0, 1, 2, 19)] == [0.0, 0.5, 1.0, 1.0]
