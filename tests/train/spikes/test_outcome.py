"""What the metrics of a finished run say of it."""

import math
import random

import pytest

from train.spikes.outcome import losses_above_start, trained_anything


def records(*losses, **fields):
    return [
        {"step": step, "loss_by_source": {"birds": loss}, "grad_norm": 1.0, **fields}
        for step, loss in enumerate(losses)
    ]


def noise(step: int, spread: float) -> float:
    return math.exp(random.Random(step).gauss(0, spread))


def test_a_loss_that_ends_above_its_beginning_is_named_with_both_levels():
    losses = (
        [0.22 * noise(step, 0.1) for step in range(5)]
        + [0.9, 2.5, 4, 6, 7.6]
        + [3.0 * noise(i, 0.1) for i in range(90)]
    )
    (found,) = losses_above_start(records(*losses))
    assert "the loss of birds is " in found
    assert " in the last 10 logged steps and was " in found


@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_a_loss_that_falls_or_stays_within_its_noise_is_not_named(spread):
    for seed in range(0, 20_000, 500):
        flat = [2 * noise(seed + step, spread) for step in range(60)]
        assert losses_above_start(records(*flat)) == []
    assert losses_above_start(records(*[3 * 0.9**step for step in range(40)])) == []


def test_few_steps_and_losses_that_are_no_numbers_say_nothing():
    assert losses_above_start(records(0.1, 5.0, 5.0)) == []
    assert losses_above_start(records(*[math.nan, 0.0, -1.0] * 10)) == []


def test_only_an_applied_step_with_a_gradient_above_zero_trains():
    assert trained_anything(records(1.0))
    assert not trained_anything(records(1.0, grad_norm=0.0))
    assert not trained_anything(records(1.0, grad_norm=math.nan))
    assert not trained_anything(records(1.0, skipped=True))
    assert trained_anything(records(1.0, grad_norm=0.0) + records(1.0))
    assert trained_anything([]), "nothing is known"
