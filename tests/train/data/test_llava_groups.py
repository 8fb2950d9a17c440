"""LLaVA's order of samples, against lists that are built one sample at a time.

`slow_epoch` is LLaVA's sampler and `slow_steps` the distribution over ranks by transformers 4.37 with accelerate 0.21,
both written out from their description: the sampler's order is cut into micro-batches, which go to the ranks in turn,
and what is missing at the end comes from the epoch's beginning.
"""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.batch_plan import plan_batches
from train.data.llava_groups import LlavaGroups
from train.data.order import PADDING, DataPosition, EpochOrder, Mixture
from train.data.packing import BatchPartitioner, StepOrder
from train.plan import make_plan, plan_counts
from train.resume import run_identity


def slow_groups(samples: list[int], words: list[int], micro_batch: int, chunks: int) -> list[list[int]]:
    """Shuffled samples as sorted groups whose chunks follow each other."""
    shuffled = [samples[k] for k in torch.randperm(len(samples)).tolist()]
    groups = []
    while shuffled:
        group, shuffled = shuffled[: micro_batch * chunks], shuffled[micro_batch * chunks :]
        group.sort(key=lambda sample: -words[sample])  # stable: equal ones stay in their order
        dealt: list[list[int]] = [[] for _ in range(chunks)]
        if len(group) % chunks:
            for k, sample in enumerate(group):
                dealt[k % chunks].append(sample)
        else:
            for sample in group:
                open_chunks = [chunk for chunk in dealt if len(chunk) < len(group) // chunks]
                min(open_chunks, key=lambda chunk: sum(words[s] for s in chunk)).append(sample)
        groups.append([sample for chunk in dealt for sample in chunk])
    return groups


def slow_epoch(words: list[int], with_image: list[bool], micro_batch: int, chunks: int) -> list[int]:
    """The next epoch of LLaVA's sampler; draws from torch's global generator."""
    kinds = [[k for k in range(len(words)) if with_image[k] == image] for image in (True, False)]
    if not kinds[0] or not kinds[1]:
        return [sample for group in slow_groups(kinds[0] + kinds[1], words, micro_batch, chunks) for sample in group]
    images, texts = (slow_groups(kind, words, micro_batch, chunks) for kind in kinds)
    last, groups = sorted(images.pop() + texts.pop()), images + texts
    order = torch.randperm(len(groups)).tolist()
    return [sample for k in order for sample in groups[k]] + last


def slow_steps(order: list[int], micro_batch: int, world: int, accumulation: int) -> list[list[list[list[int]]]]:
    """Micro-batches of each step and rank."""
    total = -(-len(order) // (micro_batch * world * accumulation)) * micro_batch * world * accumulation
    filled = list(itertools.islice(itertools.cycle(order), total))
    batches = [filled[start : start + micro_batch] for start in range(0, total, micro_batch)]
    ranks = [batches[rank::world] for rank in range(world)]
    return [
        [mine[step * accumulation : (step + 1) * accumulation] for mine in ranks]
        for step in range(len(ranks[0]) // accumulation)
    ]


def data(samples: int, images: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 30, samples), rng.random(samples) < images


def step_order(words, with_image, world: int, micro_batch: int, accumulation: int, seed: int = 5) -> StepOrder:
    split = plan_batches(world * micro_batch * accumulation, world, micro_batch, 99)
    assert split.accumulation == accumulation
    groups = LlavaGroups(words, with_image, micro_batch, world * accumulation)
    third = len(words) // 3
    mixture = Mixture(((third,), (len(words) - third,)), (1.0, 1.0), 7, groups=groups)
    steps = -(-len(words) // split.global_batch)
    return StepOrder(mixture, seed, steps, BatchPartitioner(split, "llava_groups"), "repeat")


CUTS = [(1, 4, 1), (1, 2, 4), (2, 4, 1), (4, 2, 2), (4, 5, 1), (3, 3, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("images", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("world", "micro_batch", "accumulation"), CUTS)
@pytest.mark.parametrize("samples", [97, 120, 128])
def test_every_rank_reads_what_llavas_sampler_gives_it_step_by_step(samples, world, micro_batch, accumulation, images):
    words, with_image = data(samples, images, seed=samples)
    order = step_order(words, with_image, world, micro_batch, accumulation)
    torch.manual_seed(5)
    for epoch in range(3):
        expected = slow_epoch(words.tolist(), with_image.tolist(), micro_batch, world * accumulation)
        assert sorted(expected) == list(range(samples))
        for rank in range(world):
            read = itertools.islice(order.positions(epoch * order.steps_per_epoch, rank), order.steps_per_epoch)
            mine = [step[rank] for step in slow_steps(expected, micro_batch, world, accumulation)]
            assert list(read) == mine


def test_all_steps_but_the_last_two_hold_one_kind_of_sample():
    words, with_image = data(200, 0.6)
    order = step_order(words, with_image, 2, 5, 1)
    steps = list(itertools.islice(order.batches(0), order.steps_per_epoch))
    assert all(len({bool(with_image[p]) for p in step}) == 1 for step in steps[:-2])
    assert len({bool(with_image[step[0]]) for step in steps[:-2]}) == 2


def test_a_resumed_run_reads_on_where_it_stopped():
    words, with_image = data(101, 0.7)
    order = step_order(words, with_image, 2, 4, 1)
    straight = list(itertools.islice(order.positions(0, 1), 3 * order.steps_per_epoch))
    for start in (1, order.steps_per_epoch, 2 * order.steps_per_epoch + 3):
        state = DataPosition(start)
        assert next(order.positions(state.data_step(start), 1)) == straight[start]


def test_the_same_chunks_give_the_same_steps_on_other_numbers_of_ranks():
    words, with_image = data(101, 0.7)
    epochs = [
        list(itertools.islice(step_order(words, with_image, *cut).batches(0), 20)) for cut in [(4, 3, 1), (2, 3, 2)]
    ]
    assert epochs[0] == epochs[1]


def test_weights_count_a_sample_once_for_each_pass():
    words, with_image = data(40, 0.5)
    mixture = Mixture(((10, 10), (20,)), (1.0, 2.5), 7, groups=LlavaGroups(words, with_image, 3, 2))
    for epoch in range(2):
        counts = Counter(EpochOrder.of(mixture, 0, epoch).positions.tolist())
        assert [counts[p] for p in range(20)] == [1] * 20
        assert sorted(counts[p] for p in range(20, 40)) == [2] * 10 + [3] * 10


@pytest.mark.parametrize(("samples", "batch"), [(10, 4), (12, 4), (3, 8)])
def test_a_repeated_last_batch_is_filled_with_the_first_samples_of_the_epoch(samples, batch):
    order = EpochOrder(np.arange(samples)[::-1].copy())
    read = [p for step in range(-(-samples // batch)) for p in order.step(step, batch, "repeat")]
    assert read == list(itertools.islice(itertools.cycle(reversed(range(samples))), len(read)))
    assert len(read) % batch == 0 and PADDING not in read


def test_a_training_counts_words_as_llava_does_and_keeps_its_order_on_resume(training_setup):
    config = training_setup.config(
        "llava", "train.batching=llava_groups", "train.last_batch=repeat", "loss.reduction=micro_batch"
    )
    plan = make_plan(config, 2, "cpu")
    words = plan_counts(config, plan.sources)["words"]
    for position in (0, len(plan.sources) - 1):
        turns = plan.sources.record(position).turns
        assert words[position] == sum(len(turn.text.split()) for turn in turns)
    groups = plan.order.mixture.groups
    assert np.array_equal(groups.with_image, plan.sources.with_image())
    assert (groups.micro_batch, groups.chunks) == (2, 4)
    torch.manual_seed(config.seed)
    expected = slow_epoch(words.tolist(), groups.with_image.tolist(), 2, 4)
    assert EpochOrder.of(plan.order.mixture, config.seed, 0).positions.tolist() == expected
    assert plan.length.steps_per_epoch == -(-len(plan.sources) // 8)
    settings = run_identity(plan)["settings"]
    assert (settings["train.batching"], settings["train.micro_batch"]) == ("llava_groups", 2)
    padded = replace(
        config, train=replace(config.train, batching="padded"), loss=replace(config.loss, reduction="token")
    )
    assert not {"train.batching", "train.micro_batch"} & run_identity(make_plan(padded, 2, "cpu"))["settings"].keys()
