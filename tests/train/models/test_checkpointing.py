"""Selective checkpointing changes no bit, and keeps the bytes that were estimated."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from configs.errors import ConfigError
from configs.model import ModelConfig
from configs.training import OptimConfig
from train.data.collate import collate, pack
from train.loss import local_denominator, set_loss_weights
from train.models.activation_memory import layer_bytes_per_token
from train.models.checkpointing import checkpoint_activations, checkpoint_mlps
from train.models.layer_parts import LayerParts
from train.models.llama_layers import rotary_angles
from train.models.llava import LlavaFamily
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.models.target_states import ForwardOptions, run_layer
from train.plan import make_plan
from train.toy.random_models import random_config


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("recomputed"), 1, "cpu")


def module_of(plan, mode: str, level: Any, own_loop: bool) -> LossModule:
    """With LoRA's dropout, which is drawn again when a layer is recomputed."""
    torch.manual_seed(0)
    loaded = load_model(str(plan.folder), None, "fp32", "sdpa")
    choose_trainable(loaded.model, plan.family, replace(plan.config.model, mode=mode), plan.config.optim)
    for name, parameter in loaded.model.named_parameters():  # LoRA's B starts at zero: its A would get no gradient
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    options = ForwardOptions(plan.example_builder.prefix, own_loop, selective_checkpointing=level == "selective")
    module = LossModule(loaded.model, plan.family, options).train()
    if level is True:
        checkpoint_activations(loaded.model)
    elif level == "selective" and not own_loop:
        checkpoint_mlps(plan.family.decoder(loaded.model))
    return module


def loss_and_gradients(module: LossModule, plan, join) -> dict[str, torch.Tensor]:
    with_image = plan.sources.with_image()
    chosen = [*np.flatnonzero(with_image)[:2].tolist(), *np.flatnonzero(~with_image)[:1].tolist()]
    examples = [plan.training_batches().examples[position] for position in chosen]
    batch = join(examples, plan.family, plan.example_builder.prefix)
    set_loss_weights(batch, "token", local_denominator([batch], "token"), 1.0)
    torch.manual_seed(7)
    loss, _ = module(batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


@pytest.mark.slow
@pytest.mark.parametrize("own_loop", [True, False])
@pytest.mark.parametrize("join", [collate, pack])
@pytest.mark.parametrize("mode", ["projector", "lora", "full"])
def test_loss_and_gradients_are_bit_identical_to_those_without_checkpointing(plan, mode, join, own_loop):
    expected = loss_and_gradients(module_of(plan, mode, False, own_loop), plan, join)
    for level in ("selective", True):
        found = loss_and_gradients(module_of(plan, mode, level, own_loop), plan, join)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), level
    assert any(bool(gradient.any()) for name, gradient in expected.items() if name != "loss")


def small_llava(mode: str, device: str) -> tuple[Any, LlavaFamily]:
    config = random_config("llava-1.5-7b")
    text = config.text_config
    text.num_hidden_layers, text.hidden_size, text.intermediate_size = 3, 128, 344
    text.num_attention_heads = text.num_key_value_heads = 4
    text.head_dim, text.vocab_size = 32, 64
    config.vision_config.num_hidden_layers = 1
    family = LlavaFamily(config, None)
    with torch.device(device):
        model = family.model_class.from_config(config)
        choose_trainable(model, family, ModelConfig(base="x", mode=mode), OptimConfig())
    return model.train(), family


class LiveStorages(TorchDispatchMode):
    """Weak references to all storages that operations make."""

    def __init__(self):
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return result

    def nbytes(self, ignored: list[torch.Tensor]) -> int:
        """Bytes that are still there."""
        others = {tensor.untyped_storage()._cdata for tensor in ignored}
        return sum(size for key, (kept, size) in self.made.items() if not kept.expired() and key not in others)


@pytest.mark.slow
@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize("mode", ["projector", "lora"])
def test_layers_keep_the_bytes_of_the_estimate(mode, selective):
    model, family = small_llava(mode, "cpu")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # its mask has another type on a CPU
    decoder, tokens = family.decoder(model), 512
    states = torch.randn(1, tokens, 128, requires_grad=True)
    angles = rotary_angles(decoder, states.detach(), torch.arange(tokens)[None])
    parts = LayerParts().recomputing() if selective else LayerParts()

    def forward() -> torch.Tensor:
        result = states
        for layer in decoder.layers:
            result = run_layer(parts, layer, result, angles, SimpleNamespace(packed=None, mask=None), ())
        return result

    with LiveStorages() as live:
        result = forward()
    present = [*model.parameters(), *angles, result]  # views of the first two are made, and the result is not kept
    counted = live.nbytes(present) + states.nbytes  # the first layer's input was there before
    meta, meta_family = small_llava(mode, "meta")
    for part in meta.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    estimated = 3 * tokens * layer_bytes_per_token(meta, meta_family, torch.float32, selective=selective)
    assert counted == pytest.approx(estimated, rel=0.05)


def test_a_decoder_without_mlp_modules_says_why_not():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"selective, and layers of .* have no MLP module; set it to true or false"):
        checkpoint_mlps(SimpleNamespace(layers=[layer]))
