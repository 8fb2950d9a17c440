"""Loading, families, freezing, identities."""

import json
import shutil

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from configs.errors import ConfigError
from configs.model import LoraConfig, ModelConfig
from configs.training import OptimConfig
from configs.zero import DeepSpeedConfig
from train.models.fingerprint import model_identity
from train.models.llava import LlavaFamily
from train.models.loading import load_model, resolve_attention, resolve_folder
from train.models.meta_model import meta_model
from train.models.param_groups import choose_trainable, count_parts, freeze_table
from train.models.registry import family_of
from train.toy.random_models import random_config, write_random_base


def test_a_folder_of_another_family_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(ConfigError, match="holds a model of type 'qwen2_vl'; supported: llava"):
        family_of(tmp_path)


@pytest.mark.parametrize("place", ["./nowhere", "/no/such/folder", "justaname"])
def test_a_missing_model_says_what_would_be_one(place):
    with pytest.raises(ConfigError, match=r"give a folder with a config\.json, or a hub id"):
        resolve_folder(place)


def test_a_missing_flash_attn_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vlm-classify\[flash-attn\]'"):
        resolve_attention("flash_attention_2", "cuda")
    assert resolve_attention("auto", "cuda") == "sdpa"


def test_flash_attn_on_a_cpu_is_refused_and_auto_takes_sdpa(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert resolve_attention("auto", "cpu") == "sdpa"
    assert resolve_attention("auto", "cuda") == "flash_attention_2"
    assert resolve_attention("auto", "cuda", "fp32") == "sdpa", "its kernels take 16 bits only"
    with pytest.raises(ConfigError, match="needs a GPU"):
        resolve_attention("flash_attention_2", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("layers", [-2, -1, 1, [-2, -1], [0, 2]])
def test_image_features_are_transformers_own_and_later_layers_do_not_run(training_setup, kernel, layers):
    loaded = load_model(str(training_setup.root / "base"), None, "fp32", kernel)
    chosen = [layers] if isinstance(layers, int) else layers
    loaded.model.config.vision_feature_layer = layers
    projector = loaded.model.model.multi_modal_projector
    projector.linear_1 = torch.nn.Linear(len(chosen) * loaded.model.config.vision_config.hidden_size, 48)
    projector.linear_2 = torch.nn.Linear(48, loaded.model.config.text_config.hidden_size)
    encoder = loaded.model.model.vision_tower.encoder.layers
    run: list[int] = []
    for number, layer in enumerate(encoder):
        layer.register_forward_hook(lambda *_, number=number: run.append(number))
    pixels = torch.randn(2, 3, 32, 32)
    ours = loaded.family.image_features(loaded.model, pixels)
    assert run == list(range(max(layer % (len(encoder) + 1) for layer in chosen)))
    theirs = torch.stack(list(loaded.model.model.get_image_features(pixel_values=pixels).pooler_output))
    torch.testing.assert_close(ours, theirs)
    assert ours.shape[1] == loaded.family.image_tokens()


@pytest.mark.parametrize(
    ("mode", "rates", "trained"),
    [
        ("projector", {}, {"projector"}),
        ("lora", {}, {"projector", "LoRA"}),
        ("full", {"lr_vision": 1e-5}, {"projector", "language", "vision"}),
        ("full", {}, {"projector", "language"}),
        ("full", {"lr_projector": 0.0}, {"language"}),
    ],
)
def test_each_mode_trains_what_it_says_and_lora_stays_in_the_language_model(training_setup, mode, rates, trained):
    loaded = load_model(str(training_setup.root / "base"), None, "fp32", "sdpa")
    config, optim = ModelConfig(base="x", mode=mode), OptimConfig(**rates)
    choose_trainable(loaded.model, loaded.family, config, optim)
    counts = count_parts(loaded.model, loaded.family, optim)
    assert {row.part for row in counts if row.trainable} == trained
    assert not any("vision_tower" in n and "lora_" in n for n, _ in loaded.model.named_parameters())
    assert ("frozen" in freeze_table(counts)) == (len(trained) < len(counts))


def test_nothing_to_train_is_an_error(training_setup):
    loaded = load_model(str(training_setup.root / "base"), None, "fp32", "sdpa")
    with pytest.raises(ConfigError, match="trains nothing"):
        choose_trainable(loaded.model, loaded.family, ModelConfig(base="x"), OptimConfig(lr_projector=0.0))


def test_a_lora_target_that_matches_nothing_lists_the_names_there_are(training_setup):
    loaded = load_model(str(training_setup.root / "base"), None, "fp32", "sdpa")
    lora = LoraConfig(targets=("q_proj", "qkv_proj", "gate_up_proj"))
    with pytest.raises(ConfigError, match="has qkv_proj, gate_up_proj, and the language model") as told:
        choose_trainable(loaded.model, loaded.family, ModelConfig(base="x", mode="lora", lora=lora), OptimConfig())
    assert "its linear layers are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in str(told.value)


def test_no_lora_target_at_all_is_an_error(training_setup):
    loaded = load_model(str(training_setup.root / "base"), None, "fp32", "sdpa")
    config = ModelConfig(base="x", mode="lora", lora=LoraConfig(targets=()))
    with pytest.raises(
        ConfigError, match="targets is empty, so LoRA would train nothing; name linear layers: down_proj"
    ):
        choose_trainable(loaded.model, loaded.family, config, OptimConfig())


def test_the_7b_shape_has_the_papers_trainable_parameters():
    """Rank 128 on seven linears of 32 layers, and the two-layer projector, counted on the meta device."""

    class Run:
        model = ModelConfig(base="x", mode="lora")
        optim = OptimConfig()
        deepspeed = DeepSpeedConfig()

    family = LlavaFamily(random_config("llava-1.5-7b"))
    counts = {row.part: row for row in count_parts(meta_model(family, Run), family, Run.optim)}
    assert counts["LoRA"].trainable == 319_815_680
    assert counts["projector"].trainable == 20_979_712
    assert counts["vision"].trainable == counts["language"].trainable == 0


def test_identity_follows_the_weights_and_not_the_files(training_setup, tmp_path):
    base = training_setup.root / "base"
    same = tmp_path / "same"
    shutil.copytree(base, same)
    assert model_identity(same) == model_identity(base)
    LlavaForConditionalGeneration.from_pretrained(base).save_pretrained(same, max_shard_size="100KB")
    (same / "model.safetensors").unlink(missing_ok=True)
    assert len(list(same.glob("*.safetensors"))) > 1
    assert model_identity(same) == model_identity(base), "how it is split does not matter"
    assert model_identity(write_random_base(tmp_path / "other", "tiny", seed=5)) != model_identity(base)
