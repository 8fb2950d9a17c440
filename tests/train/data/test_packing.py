"""Packing: the same samples, the same loss, the same gradients, without padding."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.batch_plan import plan_batches
from configs.errors import ConfigError
from train.benchmarks import order_plan
from train.data.collate import collate, pack
from train.data.order import PADDING
from train.data.packing import BatchPartitioner, packed_micro_batches, rank_micro_batches
from train.loss import local_denominator, set_loss_weights
from train.models import target_states
from train.models.batch import attention_arguments
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.plan import make_plan
from train.tools.preview import preview

LENGTHS = np.random.default_rng(0).integers(5, 200, 500).astype(np.uint32)


def partitioner(batching: str, world: int, micro_batch: int = 4, budget: int = 256) -> BatchPartitioner:
    size = 1 if batching == "packed" else micro_batch
    return BatchPartitioner(plan_batches(48, world, size, 16), batching, budget, LENGTHS)


def batch_of(step: int, padding: int = 0) -> list[int]:
    return [*np.random.default_rng(step).permutation(500)[: 48 - padding].tolist(), *[PADDING] * padding]


def test_the_docstrings_example():
    assert packed_micro_batches([7, 6, 5, 4, 2, 2], [7, 6, 5, 4, 2, 2], 2, 10) == [[[7, 2], [4]], [[6, 2], [5]]]


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("padding", [0, 5, 47])
def test_every_sample_of_a_step_is_run_once_in_equally_many_micro_batches(batching, world, padding):
    batch = batch_of(0, padding)
    shares = partitioner(batching, world).all_ranks(batch)
    assert len({len(share) for share in shares}) == 1
    run = Counter(p for share in shares for micro in share for p in micro if p != PADDING)
    assert run == Counter(p for p in batch if p != PADDING)
    assert shares == [partitioner(batching, world).of_rank(batch, rank) for rank in range(world)]


def test_no_packed_micro_batch_exceeds_the_budget_and_ranks_are_balanced():
    for step in range(20):
        shares = partitioner("packed", 4).all_ranks(batch_of(step))
        tokens = [[sum(int(LENGTHS[p]) for p in micro if p != PADDING) for micro in share] for share in shares]
        assert max(max(share) for share in tokens) <= 256
        sums = [sum(share) for share in tokens]
        assert max(sums) < 1.06 * np.mean(sums)


def padded_tokens(shares) -> int:
    return sum(len(micro) * max(int(LENGTHS[p]) for p in micro) for share in shares for micro in share)


def test_grouping_pads_less_than_dealing_one_by_one():
    batch = batch_of(0)
    real = int(LENGTHS[batch].sum())
    assert padded_tokens(partitioner("grouped", 2).all_ranks(batch)) < 1.15 * real
    assert padded_tokens(partitioner("padded", 2).all_ranks(batch)) > 1.3 * real


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("packing"), 1, "cpu")


def module_of(plan, mode: str, attention: str) -> tuple[LossModule, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = plan.config
    loaded = load_model(str(plan.folder), None, "fp32", attention)
    choose_trainable(loaded.model, plan.family, replace(config.model, mode=mode), config.optim)
    trained = {name: p for name, p in loaded.model.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():  # LoRA's B starts at zero: its A would get no gradient
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return LossModule(loaded.model, plan.family).eval(), trained


def gradients(module: LossModule, trained, batches, reduction: str) -> tuple[float, dict[str, torch.Tensor]]:
    module.zero_grad()
    denominator = local_denominator(batches, reduction)
    total = torch.zeros(())
    for batch in batches:
        set_loss_weights(batch, reduction, denominator, 1.0)
        loss, _ = module(batch)
        loss.backward()
        total = total + loss.detach()
    return total.item(), {name: p.grad.clone() for name, p in trained.items()}


def mixed(plan) -> list[int]:
    """Seven positions, some with and some without an image."""
    with_image = plan.sources.with_image()
    pictures, texts = np.flatnonzero(with_image).tolist(), np.flatnonzero(~with_image).tolist()
    return [pictures[0], texts[0], pictures[-1], pictures[3], texts[1], texts[2], pictures[7]]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["projector", "lora"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("reduction", ["token", "sample"])
def test_packed_and_padded_loss_and_gradients_are_equal(plan, mode, attention, reduction):
    module, trained = module_of(plan, mode, attention)
    examples = [plan.training_batches().examples[p] for p in mixed(plan)]
    assert {example.image is None for example in examples} == {True, False}
    alone = [collate([example], plan.family) for example in examples]
    loss, expected = gradients(module, trained, alone, reduction)
    packed = [
        pack(examples[:4], plan.family),
        pack(examples[4:], plan.family),
        pack([plan.example_builder.padding()], plan.family),
    ]
    packed_loss, got = gradients(module, trained, packed, reduction)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    for name, gradient in expected.items():
        assert (got[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
    assert all(gradient.norm() > 0 for gradient in expected.values())


@pytest.mark.parametrize("skip_unneeded_compute", [True, False])
def test_without_the_block_diagonal_mask_the_loss_is_another(plan, monkeypatch, skip_unneeded_compute):
    module, trained = module_of(plan, "projector", "sdpa")
    examples = [plan.training_batches().examples[p] for p in mixed(plan)]
    loss, _ = gradients(module, trained, [pack(examples, plan.family)], "token")
    monkeypatch.setattr(
        module.states, "options", target_states.ForwardOptions(skip_unneeded_compute=skip_unneeded_compute)
    )
    if skip_unneeded_compute:
        split = target_states.select_tokens
        monkeypatch.setattr(target_states, "select_tokens", lambda *given: replace(split(*given), mask=None))
    else:
        monkeypatch.setattr(target_states, "attention_arguments", lambda *_: {"attention_mask": None})
    leaking, _ = gradients(module, trained, [pack(examples, plan.family)], "token")
    assert abs(leaking - loss) > 1e-4 * loss


def test_flash_attention_gets_no_mask_and_positions_that_transformers_takes_for_packed(plan):
    from transformers.masking_utils import find_packed_sequence_indices

    batch = pack([plan.training_batches().examples[p] for p in mixed(plan)], plan.family)
    arguments = attention_arguments(batch, "flash_attention_2", torch.bfloat16)
    assert arguments["attention_mask"] is None
    assert torch.equal(find_packed_sequence_indices(arguments["position_ids"]), batch.sequence_ids)


def test_a_packed_batch_knows_its_conversations(plan):
    examples = [plan.training_batches().examples[p] for p in mixed(plan)]
    packed, padded = pack(examples, plan.family), collate(examples, plan.family)
    assert packed.attention_mask.all()
    assert packed.input_ids.shape == (1, sum(len(example.input_ids) for example in examples))
    assert torch.equal(packed.lengths(), padded.lengths())
    assert torch.equal(packed.supervised(), padded.supervised())
    assert packed.ids == padded.ids
    assert torch.equal(packed.images.tensors["pixels"], padded.images.tensors["pixels"])


def test_training_batches_follow_the_plan(training_setup):
    plan = make_plan(training_setup.config("packed", "train.batching=packed", "train.token_budget=256"), 2, "cpu")
    steps = [plan.training_batches().steps(0, rank, 0) for rank in range(2)]
    seen = []
    for _ in range(3):
        ranks = [next(step) for step in steps]
        assert len(ranks[0]) == len(ranks[1])
        assert all(batch.packed and batch.input_ids.shape[1] <= 256 for batches in ranks for batch in batches)
        seen += [name for batches in ranks for batch in batches for name in batch.ids if name]
    plain = make_plan(training_setup.config("packed"), 2, "cpu")
    padded = [plain.training_batches().steps(0, rank, 0) for rank in range(2)]
    expected = [n for _ in range(3) for step in padded for batch in next(step) for n in batch.ids]
    assert sorted(seen) == sorted(expected), "the same samples in the same three steps"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["train.batching=packed", "train.token_budget=100"], "token_budget 100 has no room for a sample of .* 256"),
        (["train.batching=packed", "loss.reduction=micro_batch"], "use reduction token or sample"),
        (["train.batching=grouped", "loss.reduction=micro_batch"], "use reduction token or sample"),
    ],
)
def test_impossible_batching_is_refused(training_setup, overrides, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make_plan(training_setup.config("refused", *overrides), 2, "cpu")


def test_padded_batches_are_dealt_one_by_one():
    assert rank_micro_batches(list("abcdefgh"), 1, plan_batches(8, 2, 2, 16)) == [["b", "d"], ["f", "h"]]


def test_the_dry_run_says_what_an_epoch_is_and_what_padding_and_text_cost(training_setup):
    kept = preview(make_plan(training_setup.config("dry"), 2, "cpu"), 0)
    assert "kept, without a gradient in mode projector: 4 samples" in kept
    assert "packed 1.00 for each real one" in kept
    overrides = ["train.text_only=drop", "train.passes_per_epoch.pictures=2.5", "train.batching=packed"]
    plan = make_plan(training_setup.config("dry", *overrides), 2, "cpu")
    shown = preview(plan, 0)
    assert "left out, which saves 4 samples" in shown
    assert "pictures 2 x 96 + 48 chosen by seed and epoch; talk 1 x 56" in shown
    assert "packed 1.00 (train.batching)" in shown
    assert "packed for 2 ranks, at most 8,192 tokens a forward" in shown
    with_image = plan.sources.with_image()
    read = {p for micros in itertools.islice(plan.order.positions(0, 0), 30) for micro in micros for p in micro}
    assert all(with_image[p] for p in read if p != PADDING)


def test_text_only_records_give_no_gradient_in_mode_projector(plan):
    module, trained = module_of(plan, "projector", "sdpa")
    texts = np.flatnonzero(~plan.sources.with_image())[:3].tolist()
    _, found = gradients(
        module, trained, [pack([plan.training_batches().examples[p] for p in texts], plan.family)], "token"
    )
    assert all(gradient.eq(0).all() for gradient in found.values())


@pytest.mark.slow
def test_packing_pads_nothing_where_llavas_sampler_runs_half_as_much_again():
    found = order_plan.padding(order_plan.modelled_lengths(), batch=8, world=4, steps=20)
    assert found["packed"] <= 1.02
    assert found["llava"] >= 1.4
