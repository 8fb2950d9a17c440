"""Shares of sources, balanced classes and weights of classes: declared numbers, the same for every split."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from configs.errors import ConfigError
from configs.training import LossConfig, TrainConfig
from train.data.class_weights import UNIT, class_weights
from train.data.entries import by_class, by_share, largest_remainder
from train.data.mixing import mixed
from train.data.order import EpochOrder, Mixture, data_steps
from train.loss import local_denominator, set_loss_weights
from train.plan import make_plan
from train.resume import run_identity
from train.tools.preview import preview
from train.tools.preview_mixture import portions

PLAIN = Mixture(shards=((10, 10, 10), (10, 7)), weights=(1.0, 1.0), block=1000)
LABELS = np.array([0] * 20 + [1] * 8 + [2] * 2 + [-1] * 17)
"""Three classes of 20, 8 and 2 samples, and 17 conversations."""


def mixture(plain: Mixture = PLAIN, tokens: np.ndarray | None = None, **settings) -> Mixture:
    return mixed(plain, ("a", "b"), LABELS, TrainConfig(sources=("a", "b"), **settings), tokens)


def entries(some: Mixture, seed: int, epoch: int) -> Counter:
    return Counter(EpochOrder.of(some, seed, epoch).positions.tolist())


def by_label(counts: Counter) -> Counter:
    found: Counter = Counter()
    for position, times in counts.items():
        found[int(LABELS[position])] += times
    return found


@pytest.mark.parametrize(
    ("total", "quotas", "expected"),
    [(10, [1, 1, 1], [4, 3, 3]), (7, [0.5, 0.3, 0.2], [4, 2, 1]), (0, [1, 2], [0, 0]), (1000, [0.7, 0.3], [700, 300])],
)
def test_largest_remainder_adds_up(total, quotas, expected):
    assert largest_remainder(total, quotas).tolist() == expected


def test_shares_of_samples_and_of_tokens_are_counted():
    assert by_share(["a", "b"], [0.7, 0.3], [100, 900]).tolist() == [700, 300]
    tokens = by_share(["a", "b"], [0.7, 0.3], [100, 900], [40, 400])
    assert tokens.tolist() == [959, 41]
    assert tokens[0] * 40 / (tokens[0] * 40 + tokens[1] * 400) == pytest.approx(0.7, abs=0.005)


@pytest.mark.parametrize("balance", ["equal", "sqrt"])
def test_classes_come_as_often_as_declared_in_every_epoch_and_every_sample_takes_its_turn(balance):
    some = mixture(balance=balance)
    declared = by_class("a", [20, 8, 2], 30, balance).tolist()
    assert declared == ([10, 10, 10] if balance == "equal" else [15, 10, 5])
    total: Counter = Counter()
    for epoch in range(4):
        counts = entries(some, 3, epoch)
        assert by_label(counts) == {0: declared[0], 1: declared[1], 2: declared[2], -1: 17}
        assert all(max(counts[p] for p in group) - min(counts[p] for p in group) <= 1 for group in
                   (range(20), range(20, 28), range(28, 30), range(30, 47)))  # fmt: skip
        total += counts
    assert max(total[p] for p in range(20)) - min(total[p] for p in range(20)) <= 1
    assert some.size == 47 and some.source_sizes() == [30, 17]


def test_balance_keeps_the_passes_and_shares_of_its_source():
    assert by_label(entries(mixture(replace(PLAIN, weights=(2.0, 1.0)), balance="equal"), 0, 0)) == {
        0: 20, 1: 20, 2: 20, -1: 17}  # fmt: skip
    some = mixture(balance="equal", shares={"a": 0.5, "b": 0.5})
    assert by_label(entries(some, 0, 0)) == {0: 8, 1: 8, 2: 8, -1: 23}


def test_shares_of_tokens_count_the_classes_as_they_are_balanced():
    tokens = np.where(LABELS == 2, 1000, 10).astype(np.uint32)  # the rarest class is the longest
    tokens[30:] = 300
    big = Mixture(((2000, 1000), (1700,)), (1.0, 1.0), 10_000)
    labels, lengths = np.repeat(LABELS, 100), np.repeat(tokens, 100)
    settings = {"shares": {"a": 0.5, "b": 0.5}, "share_of": "tokens"}
    for balance in ("none", "sqrt", "equal"):
        train = TrainConfig(sources=("a", "b"), balance=balance, **settings)
        some = mixed(big, ("a", "b"), labels, train, lengths)
        counted = some.repeats(0, 0) * lengths
        assert counted[:3000].sum() / counted.sum() == pytest.approx(0.5, abs=0.01)


def test_samples_without_a_class_in_a_source_of_classes_keep_their_proportion():
    labels = np.array([0] * 12 + [1] * 3 + [-1] * 15 + [-1] * 17)
    some = mixed(PLAIN, ("a", "b"), labels, TrainConfig(sources=("a", "b"), balance="equal"), None)
    counts = entries(some, 0, 0)
    assert [sum(counts[p] for p in group) for group in (range(12), range(12, 15), range(15, 30))] == [8, 7, 15]


def test_left_out_samples_are_in_no_balanced_epoch():
    kept = np.arange(47) % 2 == 0
    some = mixture(replace(PLAIN, kept=kept), balance="equal")
    counts = entries(some, 0, 1)
    assert set(counts) <= set(np.flatnonzero(kept).tolist())
    assert by_label(counts) == {0: 5, 1: 5, 2: 5, -1: 9}


def test_a_balanced_order_starts_anywhere_and_continues_the_same_sequence():
    some = mixture(balance="equal", shares={"a": 0.9, "b": 0.1})

    def take(first: int) -> list[list[int]]:
        steps = data_steps(some, 0, 4, first)
        return [order.step(step, 10) for _, step, order in (next(steps) for _ in range(12 - first))]

    assert all(take(start) == take(0)[start:] for start in range(12))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares": {"a": 0.999, "b": 0.001}}, "gives b 0.001, which is less than one of the 47 entries"),
        ({"balance": "equal", "passes_per_epoch": {"a": 0.05}}, "2 entries of a for 3 classes, so that 1 classes"),
    ],
)
def test_a_source_or_class_that_would_never_come_is_refused(settings, message):
    passes = settings.get("passes_per_epoch", {})
    plain = replace(PLAIN, weights=(passes.get("a", 1.0), 1.0))
    with pytest.raises(ConfigError, match=message):
        mixture(plain, **settings)


def test_balance_without_classes_is_refused():
    with pytest.raises(ConfigError, match="no sample of a, b has a class"):
        mixed(PLAIN, ("a", "b"), np.full(47, -1), TrainConfig(sources=("a", "b"), balance="sqrt"), None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("train.shares={pictures: 0.5}", "has no share of talk"),
        ("train.shares={pictures: 0.5, talk: 0.4}", "add up to 0.9; they must add up to 1"),
        ("train.shares={pictures: 1.0, talk: 0}", "share of 'talk' is 0"),
        ("train.shares={pictures: 0.5, nobody: 0.5}", "'nobody', which is not in train.sources"),
        ("train.share_of=tokens", "there are no shares"),
        ("loss.weight_of_class={cat: 0}", "weight_of_class of 'cat' is 0"),
        ("loss.weight_of_class={cat: 5000}", "a number from 0.001 to 1000"),
    ],
)
def test_impossible_settings_are_refused(training_setup, settings, message):
    with pytest.raises(ConfigError, match=message):
        training_setup.config("mixing", settings)


def test_thirds_are_shares_although_they_do_not_add_up():
    assert TrainConfig(sources=("a", "b", "c"), shares=dict.fromkeys("abc", 0.333)).shares["a"] == 0.333


def test_shares_next_to_passes_are_refused(training_setup):
    with pytest.raises(ConfigError, match="both say how much"):
        training_setup.config(
            "mixing", "train.shares={pictures: 0.5, talk: 0.5}", "train.passes_per_epoch={pictures: 2}"
        )


def weights_of(loss: LossConfig, some: Mixture = PLAIN):
    found = class_weights(loss, some, LABELS, (("ant", "bee", "cat"), ()))
    assert found is not None
    return found


def test_weights_by_class_have_the_mean_one_and_the_declared_ratios():
    inverse = weights_of(LossConfig(class_weights="inverse"))
    assert inverse.by_name == {"ant": 0.5, "bee": 1.25, "cat": 5.0}
    assert inverse.of_position[:30].mean() == 1.0
    assert set(inverse.of_position[30:]) == {1.0}
    root = weights_of(LossConfig(class_weights="inverse_sqrt", weight_of_class={"cat": 2.0}))
    assert root.by_name["bee"] / root.by_name["ant"] == pytest.approx((20 / 8) ** 0.5, rel=1e-4)
    assert root.by_name["cat"] / root.by_name["ant"] == pytest.approx(2 * 10**0.5, rel=1e-4)
    assert all((some.of_position / UNIT % 1 == 0).all() for some in (inverse, root))


def test_balanced_entries_need_no_further_weights():
    balanced = weights_of(LossConfig(class_weights="inverse"), mixture(balance="equal"))
    assert balanced.by_name == {"ant": 1.0, "bee": 1.0, "cat": 1.0}
    assert class_weights(LossConfig(), PLAIN, LABELS, (("ant", "bee", "cat"), ())) is None


def test_weights_of_unknown_classes_are_refused():
    with pytest.raises(ConfigError, match=r"names 'Cat', .*; did you mean 'cat'"):
        weights_of(LossConfig(weight_of_class={"Cat": 2.0}))
    with pytest.raises(ConfigError, match="no trained sample has one"):
        class_weights(LossConfig(class_weights="inverse"), PLAIN, np.full(47, -1), ((), ()))


def plan_with(training_setup, *settings: str):
    return make_plan(training_setup.config("mixing", *settings), 1, "cpu")


@pytest.mark.parametrize("reduction", ["token", "sample"])
def test_the_weighted_loss_is_the_weighted_mean_for_every_split(training_setup, reduction):
    plan = plan_with(training_setup, "loss.class_weights=inverse_sqrt", f"loss.reduction={reduction}")
    examples = plan.training_batches().examples
    chosen = [examples[position] for position in range(6)]
    assert len({example.weight for example in chosen}) > 1
    from train.data.collate import collate, pack

    found, denominators = [], set()
    for split in ([6], [3, 3], [1, 2, 3], "packed"):
        parts = [6] if split == "packed" else split
        starts = np.cumsum([0, *parts])
        join = pack if split == "packed" else collate
        batches = [join(chosen[a:b], plan.family) for a, b in pairwise(starts)]
        denominator = sum(local_denominator([batch], reduction) for batch in batches)
        denominators.add(denominator)
        for batch in batches:
            set_loss_weights(batch, reduction, denominator, 1.0)
        by_sample = [batch.weights[batch.sequence_ids == n].sum() for batch in batches for n in range(len(batch.ids))]
        found.append(torch.stack(by_sample))
    assert len(denominators) == 1, "exact sums do not depend on their order"
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert float(found[0].sum()) == pytest.approx(1.0, rel=1e-5)
    weights = torch.tensor([example.weight for example in chosen])
    if reduction == "sample":
        assert torch.allclose(found[0], weights / weights.sum(), rtol=1e-5)


@pytest.mark.slow
def test_the_dry_run_prints_the_realised_shares_and_the_balance_and_a_run_records_them(training_setup):
    shares = "train.shares={pictures: 0.6, talk: 0.4}"
    plan = plan_with(training_setup, shares, "train.share_of=tokens", "train.balance=equal")
    text = preview(plan, 0)
    (line,) = [line for line in text.splitlines() if line.startswith("mixture ")]
    assert "(asked 60.0% of tokens)" in line and "(asked 40.0% of tokens)" in line
    assert "balance           equal: pictures has" in text
    assert "balance           equal: talk has" in text, text
    recorded = run_identity(plan)["settings"]
    assert recorded["train.shares in entries"] == plan.order.mixture.source_sizes()
    assert recorded["train.balance"] == "equal"
    from train.plan import plan_counts

    tokens = plan_counts(plan.config, plan.sources)
    plain = plan_with(training_setup)
    assert portions(plain, tokens) == []
    repeats = plan.order.mixture.repeats(plan.config.seed, 0)
    share = (repeats * tokens["tokens"])[: plan.sources.sizes[0]].sum() / (repeats * tokens["tokens"]).sum()
    assert share == pytest.approx(0.6, abs=0.1)
