"""Batches and the length of a run."""

import pytest

from configs.batch_plan import StepCounts, plan_batches
from configs.errors import ConfigError
from configs.training import TrainConfig


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
    with pytest.raises(ConfigError, match=r"global_batch 64 is not divisible by 6 ranks; use 60 or 66"):
        plan_batches(64, 6, "auto", 16)


def test_a_micro_batch_that_does_not_divide_lists_those_that_do():
    with pytest.raises(ConfigError, match=r"micro_batch 5 .* use one of 1, 2, 4, 8, 16, 32, or auto"):
        plan_batches(64, 2, 5, 16)


@pytest.mark.parametrize(("last_batch", "steps"), [("drop", 3), ("pad", 4)])
def test_the_last_batch_is_dropped_or_padded(last_batch, steps):
    length = StepCounts.of(
        47, TrainConfig(global_batch=12 if last_batch == "drop" else 15, last_batch=last_batch, epochs=2)
    )
    assert (length.steps_per_epoch, length.total_steps) == (steps, 2 * steps)


def test_max_steps_ends_the_run_early():
    assert StepCounts.of(100, TrainConfig(global_batch=10, max_steps=7)).total_steps == 7


def test_too_few_samples_for_one_batch_is_an_error():
    with pytest.raises(ConfigError, match="5 training samples do not fill one batch"):
        StepCounts.of(5, TrainConfig(global_batch=8))
