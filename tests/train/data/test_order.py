"""The order of samples: fixed for ever, the same for every world, near-sequential, mixed as declared."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from configs.batch_plan import plan_batches
from configs.errors import ConfigError
from configs.training import TrainConfig
from train.data.order import PADDING, DataPosition, EpochOrder, Mixture, data_steps, keyed_hash
from train.data.packing import rank_micro_batches
from train.plan import make_plan
from train.tools.preview import preview

ROOT = Path(__file__).resolve().parents[3]
PLAIN = Mixture(shards=((10, 10, 10), (10, 7)), weights=(1.0, 1.0), block=1000)


def slow_hash(value: int, *keys: int) -> int:
    """The same function on Python's integers."""
    mask, state = (1 << 64) - 1, value
    for key in (*keys, 0):
        state = (state + 0x9E3779B97F4A7C15 * (2 * key + 1)) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


def slow_order(mixture: Mixture, seed: int, epoch: int) -> list[int]:
    """The order of whole passes, spelled out on lists."""
    shards, first = [], 0
    for sizes, weight in zip(mixture.shards, mixture.weights, strict=True):
        start = first
        for _ in range(int(weight)):
            first = start
            for size in sizes:
                shards.append(range(first, first + size))
                first += size
    turn = sorted(range(len(shards)), key=lambda n: slow_hash(n, seed, epoch, 1))
    row = [position for n in turn for position in shards[n]]
    found = []
    for start in range(0, len(row), mixture.block):
        places = range(start, min(start + mixture.block, len(row)))
        found += [row[place] for place in sorted(places, key=lambda place: slow_hash(place, seed, epoch, 2))]
    return found


@pytest.mark.parametrize("block", [1, 7, 20, 1000])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 1.0)])
def test_the_order_is_fixed_for_ever(block, weights):
    mixture = Mixture(PLAIN.shards, weights, block)
    assert EpochOrder.of(mixture, seed=7, epoch=2).positions.tolist() == slow_order(mixture, 7, 2)
    assert [int(h) for h in keyed_hash(np.arange(3, dtype=np.uint64), 5, 6)] == [slow_hash(v, 5, 6) for v in range(3)]


@pytest.mark.parametrize("block", [1, 8, 47, 48])
def test_every_sample_is_read_exactly_once_for_every_block_size(block):
    order = EpochOrder.of(Mixture(PLAIN.shards, PLAIN.weights, block), seed=0, epoch=0)
    assert sorted(order.positions) == list(range(47))


def test_a_block_reads_from_few_shards():
    mixture = Mixture(shards=((100,) * 50, (100,) * 30), weights=(1.0, 1.0), block=500)
    positions = EpochOrder.of(mixture, seed=0, epoch=0).positions
    per_block = [len(set(positions[start : start + 500] // 100)) for start in range(0, 8000, 500)]
    assert max(per_block) == 5
    sources = [set((positions[start : start + 500] >= 5000).tolist()) for start in range(0, 8000, 500)]
    assert sum(len(kinds) == 2 for kinds in sources) > 10, "shards of both sources lie between each other"


def test_an_epoch_by_weight_is_a_declared_multiset():
    mixture = Mixture(PLAIN.shards, weights=(2.5, 0.25), block=1000)
    assert [(p.samples, p.passes, p.extra, p.size) for p in mixture.source_mixes()] == [(30, 2, 15, 75), (17, 0, 4, 4)]
    counts = Counter(EpochOrder.of(mixture, seed=3, epoch=1).positions.tolist())
    assert Counter(counts[p] for p in range(30)) == {2: 15, 3: 15}
    assert Counter(counts[p] for p in range(30, 47)) == {0: 13, 1: 4}
    assert mixture.size == counts.total() == 79


def test_the_fractions_of_successive_epochs_take_turns():
    mixture = Mixture(PLAIN.shards, weights=(0.5, 1.0), block=1000)
    first, second = (EpochOrder.of(mixture, 0, epoch).positions for epoch in (0, 1))
    assert sorted(p for p in np.concatenate([first, second]) if p < 30) == list(range(30))


def test_left_out_positions_never_come():
    kept = np.arange(47) % 3 > 0
    mixture = Mixture(PLAIN.shards, weights=(1.5, 1.0), block=10, kept=kept)
    positions = EpochOrder.of(mixture, 0, 0).positions
    assert set(positions.tolist()) == set(np.flatnonzero(kept).tolist())
    assert len(positions) == mixture.size


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("micro_batch", [1, "auto"])
def test_every_sample_is_read_exactly_once_by_some_rank_in_equally_many_steps(world, micro_batch):
    plan = plan_batches(24, world, micro_batch, 16)
    order = EpochOrder.of(PLAIN, seed=0, epoch=0)
    read: Counter[int] = Counter()
    for step in range(2):  # 47 samples, padded to 48
        batch = order.step(step, 24)
        shares = [rank_micro_batches(batch, rank, plan) for rank in range(world)]
        assert {len(share) for share in shares} == {plan.accumulation}
        assert {len(micro) for share in shares for micro in share} == {plan.micro_batch}
        read.update(position for share in shares for micro in share for position in micro)
    assert read.pop(PADDING) == 1
    assert read == Counter(range(47))


def test_epochs_and_seeds_give_different_orders():
    orders = {tuple(EpochOrder.of(PLAIN, s, e).positions) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


@pytest.mark.parametrize("start", range(9))
def test_starting_anywhere_continues_the_same_sequence(start):
    def take(first: int) -> list[tuple[int, int, list[int]]]:
        steps = data_steps(PLAIN, 0, 4, first)
        return [(epoch, step, order.step(step, 10)) for epoch, step, order in (next(steps) for _ in range(10 - first))]

    assert take(start) == take(0)[start:]


def test_by_default_batches_of_imagenet_in_the_order_of_its_folders_hold_many_classes():
    count = 1_281_167
    mixture = Mixture(((2000,) * (count // 2000) + (count % 2000,),), (1.0,), TrainConfig().shuffle_block)
    classes = np.arange(count) * 1000 // count
    positions = EpochOrder.of(mixture, seed=0, epoch=0).positions
    found = [len(np.unique(classes[positions[at : at + 256]])) for at in range(0, count - 256, 100_000)]
    assert min(found) > 200, "of 256 independent draws 226 differ"


@pytest.mark.slow
def test_the_dry_run_warns_about_blocks_of_few_classes_and_of_a_cache_too_small_for_a_block(training_setup, tmp_path):
    def shuffled(*overrides: str) -> str:
        (line,) = [
            line
            for line in preview(make_plan(training_setup.config("dry", *overrides), 1, "cpu"), 0).splitlines()
            if line.startswith("shuffled ")
        ]
        return line

    assert shuffled().endswith("classes)")
    assert "few classes each: raise train.shuffle_block" in shuffled("train.shuffle_block=4")
    fewer = shuffled("train.shares={pictures: 0.1, talk: 0.9}")
    assert fewer.endswith("that is a whole epoch, in which train.shares has no more classes"), fewer
    there = (f"data.shards=file://{training_setup.root}/shards", f"data.cache_dir={tmp_path}")
    assert shuffled(*there).endswith("classes)")
    small = (*there, "data.cache_gib=1.0e-5")
    assert "through a cache of 0: raise data.cache_gib, or set train.shuffle_block to" in shuffled(*small)


@pytest.mark.slow
@pytest.mark.parametrize("block", [262_144, TrainConfig().shuffle_block])
def test_two_million_samples_are_ordered_in_two_seconds(block):
    mixture = Mixture(shards=((1000,) * 1281 + (167,), (1000,) * 665 + (298,)), weights=(1.0, 1.0), block=block)
    began = time.process_time()
    order = EpochOrder.of(mixture, seed=0, epoch=3)
    assert time.process_time() - began < 2
    assert len(order.positions) == 1_946_465


def test_skipped_ranges_shift_the_data_but_not_the_optimizer_step():
    state = DataPosition(step=10, skipped=((4, 7), (9, 10)))
    assert [state.data_step(step) for step in range(8)] == [0, 1, 2, 3, 7, 8, 10, 11]


@pytest.mark.parametrize(
    ("passes", "complaint"),
    [("{nobody: 2}", "'nobody', which is not in train.sources"), ("{talk: 0}", "passes_per_epoch of 'talk' is 0")],
)
def test_impossible_passes_are_refused(training_setup, passes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        training_setup.config("passes", f"train.passes_per_epoch={passes}")


def printed(training_setup, *arguments: str) -> dict:
    command = [
        sys.executable,
        "-m",
        "train.tools.order",
        "--config",
        str(training_setup.config_file("order")),
        "--json",
    ]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_the_command_prints_what_training_reads(training_setup, batching):
    chosen = f"train.batching={batching}"
    plan = make_plan(training_setup.config("order", chosen), 2, "cpu")
    shown = printed(
        training_setup, "--world", "2", "--workers", "1", "--epoch", "1", "--from-step", "3", "--set", chosen
    )
    assert list(shown) == ["epoch", "steps"]
    assert [step["step"] for step in shown["steps"]] == list(range(3, plan.length.steps_per_epoch))
    for rank in range(2):
        steps = plan.training_batches().steps(plan.length.steps_per_epoch + 3, rank, workers=0)
        for step in shown["steps"][:3]:
            assert step["ranks"][rank] == [name for batch in next(steps) for name in batch.ids if name]


@pytest.mark.slow
def test_the_command_refuses_a_step_beyond_the_epoch(training_setup):
    command = [sys.executable, "-m", "train.tools.order", "--config", str(training_setup.config_file("order"))]
    done = subprocess.run([*command, "--from-step", "999"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "--from-step 999 is past the epoch's" in done.stderr
