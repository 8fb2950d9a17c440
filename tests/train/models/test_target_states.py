"""Savings are exact: loss and gradients equal those of the whole forward pass, in fewer operations."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from train.chat.prefix import constant_prefix, shared_length
from train.data.collate import collate, pack
from train.loss import local_denominator, set_loss_weights
from train.models import last_attention, token_layout
from train.models.checkpointing import checkpoint_activations
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.models.target_states import ForwardOptions
from train.models.trainable import TrainableFamily
from train.plan import make_plan


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("savings"), 1, "cpu")


def module_of(plan, mode, *, skip_unneeded_compute, checkpointing=False):
    torch.manual_seed(0)
    loaded = load_model(str(plan.folder), None, "fp32", "sdpa")
    choose_trainable(loaded.model, plan.family, replace(plan.config.model, mode=mode), plan.config.optim)
    if checkpointing:
        checkpoint_activations(loaded.model)
    for name, parameter in loaded.model.named_parameters():  # LoRA's B starts at zero: its A would get no gradient
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    module = LossModule(
        loaded.model, plan.family, ForwardOptions(plan.example_builder.prefix, skip_unneeded_compute)
    ).train()
    for part in loaded.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return module


def examples_of(plan):
    with_image = plan.sources.with_image()
    pictures, texts = np.flatnonzero(with_image).tolist(), np.flatnonzero(~with_image).tolist()
    chosen = [pictures[0], texts[0], pictures[-1], pictures[3], texts[1]]
    return [plan.training_batches().examples[position] for position in chosen]


def batches_of(plan, kind):
    examples, join = examples_of(plan), pack if kind == "packed" else collate
    parts = [
        examples[:3],
        examples[3:],
        [plan.example_builder.padding()],
        [plan.example_builder.padding(), examples[1]],
    ]
    return [join(part, plan.family, plan.example_builder.prefix) for part in parts]


def loss_and_gradients(module, batches):
    module.zero_grad()
    total, denominator = 0.0, local_denominator(batches, "token")
    for batch in batches:
        set_loss_weights(batch, "token", denominator, 1.0)
        loss, _ = module(batch)
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["padded", "packed"])
@pytest.mark.parametrize("mode", ["projector", "lora", "full"])
def test_loss_and_gradients_equal_those_of_transformers_whole_forward_pass(plan, mode, kind, checkpointing):
    whole = module_of(plan, mode, skip_unneeded_compute=False)
    expected_loss, expected = loss_and_gradients(whole, batches_of(plan, kind))
    ours = module_of(plan, mode, skip_unneeded_compute=True, checkpointing=checkpointing)
    assert ours.states.runs_own_decoder_loop(packed=kind == "packed")
    loss, gradients = loss_and_gradients(ours, batches_of(plan, kind))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name
    assert any(gradient.norm() > 0 for gradient in expected.values())


@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_averaged_states_in_the_last_layer_change_no_gradient(plan, kind, monkeypatch):
    batches = batches_of(plan, kind)
    monkeypatch.setattr(last_attention, "averages_states", lambda *_: False)
    expected_loss, expected = loss_and_gradients(module_of(plan, "projector", skip_unneeded_compute=True), batches)
    monkeypatch.setattr(last_attention, "averages_states", lambda *_: True)
    loss, gradients = loss_and_gradients(module_of(plan, "projector", skip_unneeded_compute=True), batches)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert all((gradients[name] - other).norm() <= 1e-5 * other.norm() for name, other in expected.items())
    assert any(gradients[name].ne(other).any() for name, other in expected.items()), "the two ways were run"


def looped_varlen(queries, keys, values, starts, _, longest, __, *, scale, window_size, enable_gqa):
    """What `torch.nn.attention.varlen.varlen_attn` computes, one conversation after the other."""
    assert window_size == (-1, 0)
    assert longest == (starts[1:] - starts[:-1]).max()
    parts = []
    for start, end in itertools.pairwise(starts.tolist()):
        own = [part[start:end].transpose(0, 1) for part in (queries, keys, values)]
        attended = F.scaled_dot_product_attention(*own, is_causal=True, scale=scale, enable_gqa=enable_gqa)
        parts.append(attended.transpose(0, 1))
    return torch.cat(parts)


def refuse_square(visible_keys):
    """No mask of all tokens against all is made."""

    def checked(conversation, columns, prefix):
        assert len(columns) < max(2, len(conversation)), "a mask of T x T"
        return visible_keys(conversation, columns, prefix)

    return checked


@pytest.mark.parametrize("mode", ["projector", "lora"])
def test_a_packed_row_attends_by_boundaries_as_with_a_mask(plan, mode, monkeypatch):
    batches = batches_of(plan, "packed")
    expected_loss, expected = loss_and_gradients(module_of(plan, mode, skip_unneeded_compute=True), batches)
    monkeypatch.setattr(token_layout, "kernel_for", lambda like: looped_varlen)
    monkeypatch.setattr(token_layout, "visible_keys", refuse_square(token_layout.visible_keys))
    module = module_of(plan, mode, skip_unneeded_compute=True)
    loss, gradients = loss_and_gradients(module, batches)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert all((gradients[name] - other).norm() <= 1e-5 * other.norm() + 1e-9 for name, other in expected.items())


def operations(module, batch):
    with FlopCounterMode(display=False) as counter:
        module(batch)[0].backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_each_saving_saves_operations(plan, kind, monkeypatch):
    batch = batches_of(plan, kind)[0]
    assert batch.shared_prefix == len(plan.example_builder.prefix) > 2
    module = module_of(plan, "projector", skip_unneeded_compute=True)
    module(batch)  # the keys of the prefix are computed once
    saved = operations(module, batch)
    without_prefix = operations(module, replace(batch, shared_prefix=0))
    monkeypatch.setattr(
        module.states, "options", ForwardOptions(plan.example_builder.prefix, skip_unneeded_compute=False)
    )
    whole = operations(module, batch)
    assert saved < without_prefix < whole


def test_a_frozen_vision_tower_is_not_run_backward_also_with_checkpoints(plan):
    module = module_of(plan, "projector", skip_unneeded_compute=True, checkpointing=True)
    inputs = []
    projector = module.model.model.multi_modal_projector
    projector.register_forward_pre_hook(lambda _, given: inputs.append(given[0].requires_grad))
    module(batches_of(plan, "padded")[0])
    assert inputs == [False]


def test_the_keys_of_the_prefix_are_used_only_while_the_language_model_is_frozen(plan):
    batch = batches_of(plan, "padded")[0]
    frozen, trained = (module_of(plan, mode, skip_unneeded_compute=True) for mode in ("projector", "lora"))
    frozen(batch), trained(batch)
    assert frozen.states._prefix_keys is not None
    assert trained.states._prefix_keys is None


@pytest.mark.parametrize("case", ["kernel", "family", "window"])
def test_other_decoders_are_run_by_transformers(plan, monkeypatch, case):
    module = module_of(plan, "projector", skip_unneeded_compute=True)
    assert module.states.runs_own_decoder_loop(packed=False)
    config = plan.family.decoder(module.model).config
    if case == "kernel":
        monkeypatch.setattr(config, "_attn_implementation", "eager")
    elif case == "window":
        monkeypatch.setattr(config, "sliding_window", 8, raising=False)
    else:
        kind = type(
            "Other", (type(plan.family),), {"decode": lambda self, *given: TrainableFamily.decode(self, *given)}
        )
        module.states.family = kind(plan.family.config, plan.family.folder)
    assert not module.states.runs_own_decoder_loop(packed=False)
    module(batches_of(plan, "padded")[0])


def test_a_batch_without_any_target_still_reaches_every_trained_parameter(plan):
    module = module_of(plan, "lora", skip_unneeded_compute=True)
    batch = collate([plan.example_builder.padding()], plan.family, plan.example_builder.prefix)
    loss, _ = module(batch)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None for p in module.model.parameters() if p.requires_grad)


def test_the_constant_prefix_is_the_system_prompt_up_to_the_image(plan):
    prefix = constant_prefix(plan.example_builder.renderer)
    text = plan.example_builder.renderer.tokenizer.decode(list(prefix))
    assert text.replace(" ", "").endswith("USER:")
    assert all(tuple(example.input_ids[: len(prefix)]) == prefix for example in examples_of(plan))


@pytest.mark.parametrize(
    ("ids", "supervised", "expected"),
    [
        ([1, 2, 3, 9], [False] * 4, 3),
        ([1, 2, 8, 9], [False] * 4, 2),
        ([1, 2, 3], [False] * 3, 2),  # one token remains
        ([1, 2, 3, 9], [False, False, True, True], 1),  # the second token predicts the third
        ([7, 2, 3, 9], [False] * 4, 0),
        ([1], [False], 0),
    ],
)
def test_a_conversation_shares_what_begins_alike_and_predicts_nothing(ids, supervised, expected):
    assert shared_length([(ids, supervised), ([1, 2, 3, 4], [False] * 4)], [1, 2, 3]) == expected


@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_a_conversation_that_ends_in_an_image_keeps_all_image_tokens(plan, kind):
    picture = next(example for example in examples_of(plan) if example.image is not None)
    last_image = max(i for i, token in enumerate(picture.input_ids) if token == plan.family.image_token_id)
    cut = replace(
        picture, input_ids=picture.input_ids[: last_image + 1], supervised=picture.supervised[: last_image + 1]
    )
    join = pack if kind == "packed" else collate
    examples = [replace(cut, source=0), *examples_of(plan)]
    batches = [join(examples, plan.family, plan.example_builder.prefix)]
    assert batches[0].process_last_token
    expected_loss, expected = loss_and_gradients(module_of(plan, "projector", skip_unneeded_compute=False), batches)
    loss, gradients = loss_and_gradients(module_of(plan, "projector", skip_unneeded_compute=True), batches)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert all((gradients[name] - other).norm() <= 1e-5 * other.norm() for name, other in expected.items())
