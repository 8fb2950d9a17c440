"""Loss and gradient of every trained parameter equal those of transformers' forward with `labels`, in fp32."""

import pytest
import torch

from configs.errors import ConfigError
from tests.train.families.conftest import TrainedFamily, items, joined
from train.data.collate import collate, pack
from train.loss import local_denominator, set_loss_weights
from train.models.checkpointing import checkpoint_activations
from train.models.lora import is_lora
from train.models.loss_module import LossModule

pytestmark = pytest.mark.slow

MODES = {
    "projector": ["model.mode=projector"],
    "lora": ["model.mode=lora"],
    "dora everywhere": ["model.mode=lora", "model.lora.scope=[language, projector, vision]", "model.lora.variant=dora"],
    "selective": ["model.mode=selective", "model.selective=attention"],
    "full": ["model.mode=full"],
}
RELATIVE = 1e-5
NOISE = 3e-3  # of the whole gradient's norm: below it, a parameter's gradient is rounding (a key's bias)


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of each trained parameter, 0 where it has none."""
    model.zero_grad()
    loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained.items()}


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    whole = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        error = (ours[name] - gradient).norm()
        assert error <= RELATIVE * max(gradient.norm(), NOISE * whole), f"{name}: {error} of {gradient.norm()}"


def our_loss(module: LossModule, batch) -> torch.Tensor:
    set_loss_weights(batch, "token", local_denominator([batch], "token"), 1.0)
    return module(batch)[0]


@pytest.mark.parametrize("mode", MODES)
def test_padded_and_packed_batches_with_texts_have_transformers_loss_and_gradients(trained: TrainedFamily, mode):
    plan = trained.plan(*MODES[mode])
    chosen = items(trained.case)
    examples = trained.examples(chosen)
    loaded = trained.ours(plan)
    theirs = trained.theirs(plan, loaded.model)
    batch = joined([trained.inputs(item) for item in chosen], [trained.expected(item)[1] for item in chosen])
    loss = theirs(**batch).loss
    expected = gradients(theirs, loss)
    assert any(gradient.abs().max() > 0 for gradient in expected.values())
    module = LossModule(loaded.model, plan.family).eval()
    joins = {"padded": collate} | ({} if trained.case.packed_refused else {"packed": pack})
    for join in joins.values():
        ours = our_loss(module, join(examples, plan.family))
        assert float(ours) == pytest.approx(float(loss), rel=RELATIVE)
        assert_same(gradients(loaded.model, ours), expected)


@pytest.mark.parametrize("scope", ["language", "projector, vision"])
def test_activation_checkpointing_changes_no_gradient_and_all_of_lora_has_one(trained: TrainedFamily, scope):
    plan = trained.plan("model.mode=lora", f"model.lora.scope=[{scope}]")
    loaded = trained.ours(plan)
    batch = collate(trained.examples(items(trained.case)), plan.family)
    module = LossModule(loaded.model, plan.family).train()
    expected = gradients(loaded.model, our_loss(module, batch))
    assert not [name for name, gradient in expected.items() if is_lora(name) and not gradient.any()]
    checkpoint_activations(loaded.model)
    assert_same(gradients(loaded.model, our_loss(module, batch)), expected)


def test_texts_alone_train_without_a_gradient_of_the_projector(trained: TrainedFamily):
    plan = trained.plan("model.mode=full")
    loaded = trained.ours(plan)
    texts = [item for item in items(trained.case) if item.image is None]
    module = LossModule(loaded.model, plan.family).eval()
    loss = our_loss(module, collate(trained.examples(texts), plan.family))
    found = gradients(loaded.model, loss)
    by_part: dict[str, float] = {}
    for name, gradient in found.items():
        part = plan.family.part_of(name)
        by_part[part] = max(by_part.get(part, 0.0), float(gradient.abs().max()))
    assert by_part["projector"] == by_part["vision"] == 0.0
    assert by_part["language"] > 0.0


def test_packed_batches_are_planned_or_refused_with_the_reason(trained: TrainedFamily):
    settings = ("train.batching=packed", "train.token_budget=512")
    if trained.case.packed_refused is None:
        assert trained.plan(*settings).order.partitioner.batching == "packed"
    else:
        with pytest.raises(ConfigError, match=trained.case.packed_refused):
            trained.plan(*settings)
