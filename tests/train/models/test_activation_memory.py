"""Activation memory is counted without storage, and agrees with what was measured on a GPU."""

import pytest
import torch

from configs.model import ModelConfig
from configs.training import OptimConfig
from train.models.activation_memory import activation_bytes, layer_bytes_per_token
from train.models.llava import LlavaFamily
from train.models.param_groups import choose_trainable
from train.toy.random_models import random_config

GIB = 1024**3
TOKENS = 633  # an image, its question and its answer


def meta_model(mode: str, **settings):
    config = random_config("llava-1.5-7b")
    config.text_config.num_hidden_layers = 2  # the layers are alike
    family, model_config = LlavaFamily(config, None), ModelConfig(base="x", mode=mode, **settings)
    with torch.device("meta"):
        model = family.model_class.from_config(config)
        choose_trainable(model, family, model_config, OptimConfig())
    return model.train(), family, model_config


@pytest.mark.parametrize(
    ("mode", "measured"),
    [
        ("projector", 2.5),  # 53.8 GiB of which 13.4 are weights, 16 samples
        ("lora", 4.45),  # 54.0 GiB of which 18.4 are weights, gradients and optimizer state, 8 samples
    ],
)
def test_a_7b_sample_takes_what_was_measured_on_an_h100(mode, measured):
    model, family, _ = meta_model(mode)
    counted = 32 * TOKENS * layer_bytes_per_token(model, family, torch.bfloat16) / GIB
    assert counted == pytest.approx(measured, rel=0.03)


def test_checkpointing_keeps_the_inputs_of_the_layers_and_one_whole_layer():
    model, family, config = meta_model("projector", activation_checkpointing=True)
    whole = layer_bytes_per_token(model, family, torch.bfloat16)
    assert activation_bytes(model, family, config, 1000, 0) == 1000 * (2 * 4096 * 2 + whole)


def test_targets_keep_their_logits():
    model, family, config = meta_model("projector")
    assert (
        activation_bytes(model, family, config, 10, 3) - activation_bytes(model, family, config, 10, 0)
        == 3 * 32064 * 10
    )


def test_another_decoder_is_not_counted(monkeypatch):
    model, family, config = meta_model("projector")
    monkeypatch.setattr(family.decoder(model).config, "sliding_window", 8, raising=False)
    assert activation_bytes(model, family, config, 10, 3) is None
