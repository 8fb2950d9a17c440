"""Heads: those trained together are those of the authors' loop, and the epoch is chosen by whom the settings say."""

import pytest
import torch
from torch import nn

from configs.probe import ProbeConfig
from eval.benchmarks.probe_head_speed import as_text, authors_loop, benchmark, kept_batches
from eval.models.cpu_matmul import default_products, onednn_is_faster
from eval.probes.batches import Batches, Items, Layout, PackedBatch, PlainBatch
from eval.probes.heads import initial_heads, train_heads


def items(count, seed, places=3, noise=2.0):
    """Features of four classes that differ, in the last place the most."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=drawn)
    centres = torch.randn(4, places, 8, generator=torch.Generator().manual_seed(9))
    return (centres[labels] + noise * torch.randn(count, places, 8, generator=drawn)).half(), labels


def trained(train, check, epochs, dtype=torch.float32, keep=True, **settings):
    def batches(rows, size, learning):
        states, labels = rows
        read = Items(labels, lambda part: states[part])
        shuffled = settings.get("seed", 0) if settings.get("shuffle") == "every_epoch" and learning else None
        return Batches(read, Layout(dtype, "cpu", learning), size, keep=keep, shuffle_seed=shuffled)

    checked = None if check is None else batches(check, 4096, False)
    return train_heads(batches(train, 512, True), checked, 4, ProbeConfig(epochs=epochs, **settings))


def right(heads, rows):
    return heads.hits(kept_batches(rows, 4096, torch.float32, "cpu")).sum(1)


def by_the_authors(train, test, epochs, place):
    weights, biases = initial_heads(3, 8, 4, 0)
    head = nn.Linear(8, 4)
    head.load_state_dict({"weight": weights[place], "bias": biases[place, :, 0]})
    column = [(states[:, place].float(), labels) for states, labels in (train, test)]
    return authors_loop(*column, head, epochs), head


@pytest.mark.parametrize("keep", [True, False])
def test_heads_trained_together_are_those_of_the_authors_loop(keep):
    train, test = items(700, 1), items(300, 2)  # two batches, the second not full
    together = trained(train, test, 5, keep=keep)
    for place in range(3):
        history, head = by_the_authors(train, test, 5, place)
        on_test = [found for _, found in history]
        assert on_test.index(max(on_test)) == int(together.epochs[place])
        assert max(on_test) == int(together.correct[place]) == int(right(together, test)[place])
        assert on_test[-1] == int(together.correct_at_the_end[place])
        last = trained(train, None, 5, keep=keep)
        assert torch.allclose(last.weights[place], head.weight, atol=1e-5)
        assert torch.allclose(last.biases[place, :, 0], head.bias, atol=1e-5)
        assert int(last.epochs[place]) == 4


def test_pytorchs_products_and_onednns_train_the_same_heads():
    train, test = items(700, 1), items(300, 2)
    layout = Layout(torch.float32, "cpu", True)
    first = trained(train, test, 5)
    kind = type(layout.lay_out(*train))
    with default_products():
        assert isinstance(layout.lay_out(*train), PlainBatch)
        second = trained(train, test, 5)
    assert kind is (PackedBatch if onednn_is_faster() else PlainBatch)
    assert torch.allclose(first.weights, second.weights, atol=1e-5)
    assert torch.equal(first.epochs, second.epochs)


def test_the_epoch_is_chosen_on_the_checked_items_alone():
    train, check, test = items(600, 1), items(60, 2), items(300, 3)
    chosen, on_test = trained(train, check, 30), trained(train, test, 30)
    assert (right(chosen, test) <= on_test.correct).all()
    assert (right(chosen, test) < on_test.correct).any()
    assert (right(on_test, check) <= chosen.correct).all()


def test_a_shuffled_training_has_its_own_order_in_each_epoch_and_the_same_when_repeated():
    rows = items(700, 1)
    batches = Batches(
        Items(rows[1], lambda part: rows[0][part]),
        Layout(torch.float32, "cpu", False),
        512,
        keep=True,
        shuffle_seed=3,
    )
    orders = [torch.cat([batch.labels for batch in batches.epoch(epoch)]) for epoch in (0, 1, 0)]
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0].bincount(), rows[1].bincount())
    plain, shuffled = (trained(rows, None, 2, shuffle=shuffle) for shuffle in ("once", "every_epoch"))
    assert not torch.equal(plain.weights, shuffled.weights)


def test_bf16_products_learn_as_much():
    train, check, test = items(600, 1, noise=0.7), items(60, 2, noise=0.7), items(300, 3, noise=0.7)
    exact, fast = (trained(train, check, 60, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert (right(exact, test) - right(fast, test)).abs().max() <= 12
    assert right(exact, test).min() > 150  # chance is 75


@pytest.mark.slow
def test_the_benchmark_times_both_sides():
    result = benchmark(items=600, tests=300, size=16, classes=5)
    assert min(result["ratio_fp32"], result["ratio_bf16"], result["loop"]) > 0
    assert "11 heads" in as_text(result)
