"""The order of samples, judged by census."""

from collections import Counter

import numpy as np
import pytest

from train.order import PADDING, EpochOrder, OrderState, data_steps, keyed_hash, rank_share
from train.schedule import plan_batches

SIZES = (30, 17)


def slow_hash(value: int, *keys: int) -> int:
    """The same function on Python's integers."""
    mask, state = (1 << 64) - 1, value
    for key in (*keys, 0):
        state = (state + 0x9E3779B97F4A7C15 * (2 * key + 1)) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


def test_the_order_is_fixed_for_ever():
    assert EpochOrder.of((10,), seed=7, epoch=2).positions.tolist() == sorted(
        range(10), key=lambda p: slow_hash(p, 7, 2)
    )
    assert [int(h) for h in keyed_hash(np.arange(3, dtype=np.uint64), 5, 6)] == [slow_hash(v, 5, 6) for v in range(3)]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("micro_batch", [1, "auto"])
def test_every_sample_is_read_exactly_once_by_some_rank_in_equally_many_steps(world, micro_batch):
    plan = plan_batches(24, world, micro_batch, 16)
    order = EpochOrder.of(SIZES, seed=0, epoch=0)
    read: Counter[int] = Counter()
    for step in range(2):  # 47 samples, padded to 48
        batch = order.step(step, 24)
        shares = [rank_share(batch, rank, plan) for rank in range(world)]
        assert {len(share) for share in shares} == {plan.accumulation}
        assert {len(micro) for share in shares for micro in share} == {plan.micro_batch}
        read.update(position for share in shares for micro in share for position in micro)
    assert read.pop(PADDING) == 1
    assert read == Counter(range(47))


def test_global_steps_hold_the_same_samples_on_every_world_size():
    order = EpochOrder.of(SIZES, seed=1, epoch=3)
    for world in (1, 2, 4):
        plan = plan_batches(12, world, "auto", 16)
        shares = [p for rank in range(world) for micro in rank_share(order.step(1, 12), rank, plan) for p in micro]
        assert sorted(shares) == sorted(order.step(1, 12))


def test_epochs_and_seeds_give_different_orders():
    orders = {tuple(EpochOrder.of(SIZES, s, e).positions) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


@pytest.mark.parametrize("start", range(9))
def test_starting_anywhere_continues_the_same_sequence(start):
    def take(first: int) -> list[tuple[int, int, list[int]]]:
        steps = data_steps(SIZES, 0, 4, first)
        return [(epoch, step, order.step(step, 10)) for epoch, step, order in (next(steps) for _ in range(10 - first))]

    assert take(start) == take(0)[start:]


def test_skipped_ranges_shift_the_data_but_not_the_optimizer_step():
    state = OrderState(step=10, skipped=((4, 7), (9, 10)))
    assert [state.data_step(step) for step in range(8)] == [0, 1, 2, 3, 7, 8, 10, 11]
