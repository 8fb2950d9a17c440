"""Activation memory is counted without storage, and agrees with what was measured on a GPU."""

import pytest
import torch

from configs.model import LoraConfig, ModelConfig
from configs.training import OptimConfig
from train.models.activation_memory import activation_bytes, layer_bytes_per_token
from train.models.llama_layers import after_attention, causal_attention, queries_keys_values, rotary_angles
from train.models.llava import LlavaFamily
from train.models.param_groups import choose_trainable
from train.models.registry import family_of
from train.toy.random_models import random_config
from train.toy.tiny_families import write_tiny_family


@pytest.fixture(autouse=True)
def torchs_own_linear(monkeypatch):
    """DeepSpeed's ZeRO 3 replaces it for the rest of a process by one that keeps its input; other tests may run it."""
    monkeypatch.setattr(torch.nn.functional, "linear", torch._C._nn.linear)


def small_family():
    config = random_config("llava-1.5-7b")
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.num_attention_heads = 128, 344, 1, 4
    text.num_key_value_heads, text.head_dim = 4, 32
    config.vision_config.num_hidden_layers = 1
    return LlavaFamily(config, None)


GIB = 1024**3
TOKENS = 633  # an image, its question and its answer


def meta_model(mode: str, zero_stage=0, **settings):
    config = random_config("llava-1.5-7b")
    config.text_config.num_hidden_layers = 2  # the layers are alike
    family, model_config = LlavaFamily(config, None), ModelConfig(base="x", mode=mode, **settings)
    with torch.device("meta"):
        model = family.model_class.from_config(config)
        choose_trainable(model, family, model_config, OptimConfig(), zero_stage)
    return model.train(), family, model_config


def sample_gib(mode, zero_stage=0, **settings):
    model, family, _ = meta_model(mode, zero_stage=zero_stage, **settings)
    return 32 * TOKENS * layer_bytes_per_token(model, family, torch.bfloat16) / GIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "measured"),
    [
        ("projector", 2.5),  # 53.8 GiB of which 13.4 are weights, 16 samples
        ("lora", 4.45),  # 54.0 GiB of which 18.4 are weights, gradients and optimizer state, 8 samples
    ],
)
def test_a_7b_sample_takes_what_was_measured_on_an_h100(mode, measured):
    assert sample_gib(mode, zero_stage=3) == pytest.approx(measured, rel=0.03), "measured with peft's layers"


@pytest.mark.slow
def test_lora_keeps_less_than_half_of_what_pefts_layers_keep():
    units = 11.4 + 7 * 128 / 4096  # of the hidden size, in bf16: what remains without LoRA, and 7 products of rank 128
    assert sample_gib("lora") == pytest.approx(32 * TOKENS * units * 4096 * 2 / GIB, rel=0.01)
    assert sample_gib("lora") < 0.45 * sample_gib("lora", zero_stage=3)


@pytest.mark.slow
def test_dora_keeps_more_than_pefts_lora_for_each_token_and_its_norms_of_weights_are_not_counted():
    dora = sample_gib("lora", lora=LoraConfig(variant="dora"))
    assert sample_gib("lora", zero_stage=3) < dora < 2 * sample_gib("lora", zero_stage=3)


@pytest.mark.slow
def test_lora_keeps_what_its_backward_pass_finds_on_a_cpu():
    torch.manual_seed(0)
    family, config = small_family(), ModelConfig(base="x", mode="lora")
    model = family.model_class.from_config(family.config).to(torch.bfloat16)
    choose_trainable(model, family, config, OptimConfig())
    with torch.device("meta"):
        other = family.model_class.from_config(family.config)
        choose_trainable(other, family, config, OptimConfig())
    counted = layer_bytes_per_token(other.train(), family, torch.bfloat16)
    decoder = family.decoder(model.train())
    states = torch.randn(1, 256, decoder.config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    angles = rotary_angles(decoder, states.detach(), torch.arange(256)[None])
    ignored = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *angles)}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    layer = decoder.layers[0]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        queries, keys, values = queries_keys_values(layer, states, angles)
        finished = after_attention(layer, states, causal_attention(layer.self_attn, queries, keys, values))
    found = sum(size for storage, size in kept.items() if storage not in ignored) / 256
    assert counted == pytest.approx(found, rel=0.01)
    finished.sum().backward()


def test_checkpointing_keeps_the_inputs_of_the_layers_and_one_whole_layer():
    model, family, _ = meta_model("projector")
    whole = layer_bytes_per_token(model, family, torch.bfloat16)
    assert activation_bytes(model, family, "bf16", True, 1000, 0) == 1000 * (2 * 4096 * 2 + whole)


def test_selective_checkpointing_keeps_what_the_attention_keeps_and_one_whole_layer():
    model, family, _ = meta_model("projector")
    whole = layer_bytes_per_token(model, family, torch.bfloat16)
    kept = layer_bytes_per_token(model, family, torch.bfloat16, selective=True)
    heads = 4 * 4096 * 2 + 32 * 4  # queries, keys, values and output in bf16, one number a head in fp32
    assert heads + 4096 * 2 <= kept < whole / 2
    assert activation_bytes(model, family, "bf16", "selective", 1000, 0) == 1000 * (2 * kept + whole)
    assert activation_bytes(model, family, "bf16", False, 1000, 0) == 1000 * 2 * whole


def test_a_vision_tower_that_trains_is_not_counted():
    model, family, _ = meta_model("full")
    assert activation_bytes(model, family, "bf16", False, 10, 3) is not None
    next(p for name, p in model.named_parameters() if family.part_of(name) == "vision").requires_grad = True
    assert activation_bytes(model, family, "bf16", False, 10, 3) is None


def test_targets_keep_their_logits():
    model, family, _ = meta_model("projector")
    with_targets, without = (activation_bytes(model, family, "bf16", False, 10, targets) for targets in (3, 0))
    assert with_targets - without == 3 * 32064 * 10


@pytest.fixture
def tiny_family(tmp_path):
    """A model family, by its name, with a tiny configuration."""
    return lambda name: family_of(write_tiny_family(tmp_path / name, name, ["a", "cat"]))


def kept_by_autograd(family, tokens):
    """Bytes that transformers' whole decoder keeps on this CPU for a backward pass."""
    decoder = family.decoder(family.model_class.from_config(family.config)).to(torch.bfloat16).train()
    decoder.requires_grad_(False)  # as a training of the projector
    states = torch.randn(1, tokens, decoder.config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    weights = {parameter.untyped_storage().data_ptr() for parameter in decoder.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = decoder(inputs_embeds=states, use_cache=False)
    size = sum(size for storage, (size, _) in kept.items() if storage not in weights)
    del output
    return size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "blip-2"])
def test_a_layer_that_transformers_runs_keeps_what_autograd_keeps_on_a_cpu(name, tiny_family):
    few, many = tiny_family(name), tiny_family(name)
    few.text_config.num_hidden_layers, many.text_config.num_hidden_layers = 2, 3
    with torch.device("meta"):
        model = few.model_class.from_config(few.config)
        choose_trainable(model, few, ModelConfig(base="x", mode="projector"), OptimConfig())
    counted = layer_bytes_per_token(model.train(), few, torch.bfloat16)
    tokens = 64
    assert counted == pytest.approx((kept_by_autograd(many, tokens) - kept_by_autograd(few, tokens)) / tokens, rel=0.02)


@pytest.mark.slow
def test_selective_checkpointing_of_such_a_layer_keeps_the_input_of_its_mlp_and_not_what_is_in_it(tiny_family):
    family = tiny_family("qwen3_vl")
    with torch.device("meta"):
        model = family.model_class.from_config(family.config)
        choose_trainable(model, family, ModelConfig(base="x", mode="projector"), OptimConfig())
    model.train()
    whole, selective = (layer_bytes_per_token(model, family, torch.bfloat16, selective=kind) for kind in (False, True))
    text = family.text_config  # in the MLP: gate, its activation and up; the products have frozen weights
    assert whole - selective == (3 * text.intermediate_size - text.hidden_size) * 2
    assert "forward" not in vars(family.decoder(model).layers[0].mlp), "the model is as before"


def test_selective_checkpointing_of_layers_without_an_mlp_module_is_not_counted(tiny_family):
    family = tiny_family("blip-2")
    with torch.device("meta"):
        model = family.model_class.from_config(family.config)
    assert layer_bytes_per_token(model, family, torch.bfloat16)
    assert layer_bytes_per_token(model, family, torch.bfloat16, selective=True) is None


def test_a_decoder_whose_angles_change_with_the_length_is_not_counted(monkeypatch):
    model, family, _ = meta_model("projector")
    counted = activation_bytes(model, family, "bf16", False, 10, 3)
    monkeypatch.setattr(family.decoder(model).config, "sliding_window", 8, raising=False)
    assert activation_bytes(model, family, "bf16", False, 10, 3) == counted, "a window changes no size"
    monkeypatch.setattr(family.decoder(model).rotary_emb, "rope_type", "dynamic")
    assert activation_bytes(model, family, "bf16", False, 10, 3) is None
