"""LoRA's own forward and backward pass against peft's layers, and its dropout against explicit masks."""

import itertools
import math

import peft
import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import nn

from train.models import dropout_mask
from train.models.dropout_mask import draw_keys, keep_mask
from train.models.lora_linear import AdaptedLinear, linears, runs_own_pass

SHAPE = (2, 5, 24)
NAMES = ("first", "second")


class Layers(nn.Module):
    """Two linear layers behind a norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(SHAPE[-1])
        self.first = nn.Linear(SHAPE[-1], 32)
        self.second = nn.Linear(SHAPE[-1], 16, bias=False)

    def forward(self, states, own=True):
        layers = [self.first, self.second]
        if own:
            return linears(layers, self.norm, states)
        return [layer(self.norm(states)) for layer in layers]


def adapted(dropout=0.0, own=True, dtype=torch.float32, names=NAMES, **options):
    """`Layers` with LoRA, by `AdaptedLinear` or by peft's own layer; equal weights at every call."""
    torch.manual_seed(0)
    model = Layers().requires_grad_(False)
    settings = {"r": 4, "lora_alpha": 6, "lora_dropout": dropout, "target_modules": list(names)} | options
    config = peft.LoraConfig(**settings)
    if own:
        config._register_custom_module({nn.Linear: AdaptedLinear})
    peft.inject_adapter_in_model(config, model)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
            parameter.requires_grad_(True)
    return model.to(dtype)


def states_of(dtype=torch.float32, needs_gradient=True):
    torch.manual_seed(2)
    return torch.randn(SHAPE).to(dtype).requires_grad_(needs_gradient)


def results(model, states, own=True):
    """Outputs, and the gradients of the states and of every trained parameter."""
    outputs = model(states, own)
    sum(output.float().sin().square().sum() for output in outputs).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"outputs": torch.cat(outputs, dim=-1).detach(), "states": states.grad} | gradients


def error(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("grouped", [True, False])
def test_outputs_and_gradients_equal_pefts(grouped):
    found, expected = results(adapted(), states_of(), own=grouped), results(adapted(own=False), states_of(), own=False)
    assert found.keys() == expected.keys()
    assert len(found) == 2 + 2 * len(NAMES)
    assert all(error(found[name], expected[name]) < 1e-6 for name in expected)


def test_parameter_names_are_pefts():
    assert adapted().state_dict().keys() == adapted(own=False).state_dict().keys()


def test_states_without_a_gradient_train_the_adapters_alone():
    states, other = states_of(needs_gradient=False), states_of()
    found, expected = results(adapted(), states), results(adapted(), other)
    assert states.grad is None
    assert all(torch.equal(found[name], expected[name]) for name in expected if name != "states")


def test_errors_in_bf16_are_no_larger_than_pefts():
    exact = results(adapted().to(torch.bfloat16).double(), states_of(torch.bfloat16).detach().double().requires_grad_())
    sides = {
        own: results(adapted(dtype=torch.bfloat16, own=own), states_of(torch.bfloat16), own) for own in (True, False)
    }
    own, pefts = ({name: error(side[name], exact[name]) for name in exact} for side in (sides[True], sides[False]))
    assert 0 < sum(own.values()) <= sum(pefts.values())
    assert own["outputs"] <= pefts["outputs"]


@pytest.mark.slow
def test_the_backward_pass_uses_the_masks_of_the_forward_pass():
    model = adapted(dropout=0.3).double()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def outputs(states, *_):
        torch.manual_seed(7)
        return tuple(model(states))

    states = states_of().detach().double().requires_grad_()
    assert torch.autograd.gradcheck(outputs, (states, *trained))


def test_dropout_is_that_of_explicit_masks_one_for_each_layer():
    model, rate = adapted(dropout=0.3), 0.3
    torch.manual_seed(7)
    found = model(states_of())
    torch.manual_seed(7)
    keys = draw_keys(2, states_of())
    read = model.norm(states_of())
    masks = [keep_mask(key, 10, SHAPE[-1], rate).view(SHAPE) for key in keys]
    assert not torch.equal(*masks)
    for layer, mask, output in zip((model.first, model.second), masks, found, strict=True):
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        expected = layer.base_layer(read) + (read * mask / (1 - rate)) @ down.T @ up.T * (6 / 4)
        assert error(output, expected) < 1e-6


@pytest.mark.slow
def test_dropout_does_not_change_the_mean():
    model, states, draws = adapted(dropout=0.2), states_of(), 2000
    expected = torch.cat(model.eval()(states), -1).detach()
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([torch.cat(model(states), -1) for _ in range(draws)])
    deviations = (drawn.mean(0) - expected) / (drawn.std(0) / math.sqrt(draws))  # standard normal if the mean is right
    assert deviations.square().mean() == pytest.approx(1, abs=0.5)
    assert deviations.abs().max() < 5


def test_evaluation_drops_nothing_and_draws_nothing():
    model, states = adapted(dropout=0.5).eval(), states_of()
    expected = results(adapted(dropout=0.5, own=False).eval(), states_of(), own=False)
    before = torch.get_rng_state()
    outputs = torch.cat(model(states), dim=-1)
    assert torch.equal(torch.get_rng_state(), before)
    assert error(outputs, expected["outputs"]) < 1e-6


def test_masks_are_equal_for_equal_seeds_and_differ_between_ranks():
    drawn, like = [], torch.empty(1)
    for seed in (5, 5, 6):  # a step's seed depends on the rank
        torch.manual_seed(seed)
        drawn.append(keep_mask(draw_keys(1, like)[0], 64, 64, 0.5))
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].eq(drawn[2]).float().mean() == pytest.approx(0.5, abs=0.03)


def test_recomputation_of_activations_draws_the_same_masks():
    found = {}
    for checkpointed in (False, True):
        model, states = adapted(dropout=0.3), states_of()
        torch.manual_seed(7)
        if checkpointed:
            run = lambda states, own: torch.utils.checkpoint.checkpoint(model.forward, states, use_reentrant=False)  # noqa: B023, E731
            outputs = run(states, True)
        else:
            outputs = model(states)
        sum(output.sin().sum() for output in outputs).backward()
        found[checkpointed] = [states.grad, *(p.grad for p in model.parameters() if p.requires_grad)]
    assert all(torch.equal(*pair) for pair in zip(found[False], found[True], strict=True))


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_elements_are_dropped_at_the_rate_and_independently(rate):
    torch.manual_seed(3)
    first, second = (keep_mask(key, 700, 501, rate).double() for key in draw_keys(2, states_of()))
    variance = rate * (1 - rate)
    assert abs(first.mean() - (1 - rate)) < 4 * math.sqrt(variance / first.numel())
    for dim in (0, 1):  # sums of rows and of columns scatter as independent elements do
        expected = variance / first.shape[dim]
        assert first.mean(dim).var() / expected == pytest.approx(1, abs=0.35)
    centred, other = first - (1 - rate), second - (1 - rate)
    pairs = [(centred, other), (centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])]
    pairs.append((centred[1:, 1:], centred[:-1, :-1]))
    for left, right in pairs:
        correlation = (left * right).mean() / variance
        assert abs(correlation) < 4.5 / math.sqrt(left.numel())


def test_the_hash_is_that_of_unsigned_32_bit_integers():
    def mixed(bits):
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            bits = ((bits ^ (bits >> shift)) * factor) % 2**32
        return bits

    def folded(bits):
        return bits ^ (bits >> 15)

    keys = torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32)
    found = keep_mask(keys, 13, 37, 0.4)
    for row, column in itertools.product(range(13), range(37)):
        bits = mixed(folded(mixed((row - 2**31) % 2**32)) ^ folded(mixed((column ^ (2**31 - 1)) % 2**32)))
        signed = bits - 2**32 if bits >= 2**31 else bits
        assert found[row, column] == (signed >= -(2**31) + round(0.4 * 2**32))


def other_type(model):
    model.first.lora_A.float(), model.first.lora_B.float()


def merged(model):
    model.first.merge()


def trained_weight(model):
    model.first.base_layer.weight.requires_grad_(True)


def partitioned(model):
    model.first.lora_A["default"].weight.ds_id = 0


def switched_off(model):
    model.first.enable_adapters(False)


@pytest.mark.parametrize("change", [other_type, merged, trained_weight, partitioned, switched_off, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_what_the_own_pass_does_not_cover_is_left_to_peft(change, dtype, monkeypatch):
    options = {} if change else {"use_dora": True}
    model, states = adapted(dtype=dtype, **options), states_of(dtype)
    expected_model = adapted(dtype=dtype, own=False, **options)
    if change:
        assert runs_own_pass(model.first, states)
        change(model), change(expected_model)
    assert not runs_own_pass(model.first, states)
    called = []
    forward = Linear.forward
    monkeypatch.setattr(Linear, "forward", lambda self, *given: (called.append(self), forward(self, *given))[1])
    outputs = model(states)
    assert model.first in called
    expected = expected_model(states, own=False)
    assert error(outputs[0], expected[0]) == 0
    assert error(outputs[1], expected[1]) < 1e-2


def test_one_adapted_layer_of_several_may_be_plain():
    found = results(adapted(names=["second"]), states_of())
    expected = results(adapted(names=["second"], own=False), states_of(), own=False)
    assert found.keys() == expected.keys()
    assert all(error(found[name], expected[name]) < 1e-6 for name in expected)


def kept_bytes(model, own):
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    states, kept = states_of(), {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights | {states.untyped_storage().data_ptr()}:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(states, own)
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_only_the_products_of_rank_r_and_the_keys_are_kept():
    rows, rank = 10, 4
    assert kept_bytes(adapted(dropout=0.1), own=True) == 2 * rows * rank * 4 + 2 * 2 * 4
    assert kept_bytes(adapted(dropout=0.1, own=False), own=False) > 2 * rows * SHAPE[-1] * 4


@pytest.mark.slow
def test_compiled_layers_give_pefts_result_and_draw_masks_at_the_rate():
    torch._dynamo.reset()
    model = adapted()
    found = torch.compile(model, dynamic=True, fullgraph=True, backend="aot_eager")
    expected = results(adapted(own=False), states_of(), own=False)
    outputs = found(states_of())
    assert error(torch.cat(outputs, -1), expected["outputs"]) < 1e-6
    sum(output.sin().square().sum() for output in outputs).backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or error(parameter.grad, expected[name]) < 1e-6, name
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_layers_keep_no_mask_and_no_dropped_input():
    torch._dynamo.reset()
    rows, rank = 10, 4
    compiled = torch.compile(adapted(dropout=0.1), dynamic=True, backend="aot_eager_decomp_partition")
    compiled(states_of())
    products, roots, keys = 2 * rows * rank * 4, rows * 4, 2 * 2 * 4
    scalars = 2 * 4
    assert kept_bytes(compiled, own=True) <= products + roots + keys + scalars
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_mask_is_the_same_mask():
    torch._dynamo.reset()
    states = torch.ones(400, 500)
    kernel = torch.compile(dropout_mask._masked, dynamic=True, backend="aot_eager")
    keys = draw_keys(1, states)[0]
    assert torch.equal(kernel(states, keys, 0.05), keep_mask(keys, 400, 500, 0.05).float())
    torch._dynamo.reset()
