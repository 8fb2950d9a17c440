"""Batches, lengths and rates."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from configs.errors import ConfigError
from configs.training import OptimConfig, TrainConfig
from train.schedule import Length, lr_factor, plan_batches, warmup_steps


@pytest.mark.parametrize(
    ("world", "cap", "expected"),
    [
        (1, 16, (16, 3)),
        (2, 16, (12, 2)),
        (4, 16, (12, 1)),
        (8, 16, (6, 1)),
        (2, 5, (4, 6)),
        (3, 7, (4, 4)),
        (8, 1, (1, 6)),
    ],
)
def test_auto_takes_the_largest_divisor_under_the_cap(world, cap, expected):
    plan = plan_batches(48, world, "auto", cap)
    assert (plan.micro_batch, plan.accumulation) == expected


def test_a_batch_that_does_not_divide_by_the_world_names_the_nearest_that_do():
    with pytest.raises(ConfigError, match=r"global_batch 64 does not divide by 6 ranks; use 60 or 66"):
        plan_batches(64, 6, "auto", 16)


def test_a_micro_batch_that_does_not_divide_lists_those_that_do():
    with pytest.raises(ConfigError, match=r"micro_batch 5 .* use one of 1, 2, 4, 8, 16, 32, or auto"):
        plan_batches(64, 2, 5, 16)


@pytest.mark.parametrize(("tail", "steps"), [("drop", 3), ("pad", 4)])
def test_the_tail_is_dropped_or_padded(tail, steps):
    length = Length.of(47, TrainConfig(global_batch=12 if tail == "drop" else 15, tail=tail, epochs=2))
    assert (length.steps_per_epoch, length.total_steps) == (steps, 2 * steps)


def test_max_steps_ends_the_run_early():
    assert Length.of(100, TrainConfig(global_batch=10, max_steps=7)).total_steps == 7


def test_too_few_samples_for_one_batch_is_an_error():
    with pytest.raises(ConfigError, match="5 training samples do not fill one batch"):
        Length.of(5, TrainConfig(global_batch=8))


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
