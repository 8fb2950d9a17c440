"""Model folders as people have them: incomplete, of another format, or of another model; each is told in one line."""

import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from configs.trained import training_record_of_model
from eval.models.folder_check import check_model_folder
from eval.models.model_type import model_type
from eval.runner.evaluated_model import identify_model
from train.models.checked_loading import check_loading_info, check_weight_headers
from train.models.linear_probe import StoredProbe
from train.models.loading import load_model
from train.models.registry import family_of
from train.models.types import PROBE

TINY = Path("train/assets/tiny_llava")
CASES = Path("../shared/cases/make_model_folder.py")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5539448\n"


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped model."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def load(place):
    return load_model(str(place), None, "fp32", "sdpa")


def refused(place):
    """The one line that says why `place` is not loaded."""
    with pytest.raises(ConfigError) as found:
        load(place)
    text = str(found.value)
    assert "\n" not in text
    assert str(place) in text
    return text


def change_config(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) and name in config else value
    file.write_text(json.dumps(config))


def change_weights(folder, change):
    """Write what `change` makes of the weights, by name."""
    file = folder / "model.safetensors"
    weights = {name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(weights, file, metadata={"format": "pt"})


def split(folder):
    """Two files and an index, as large models have; returns the second file."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, index = sorted(weights), {}
    for number, part in enumerate((names[:60], names[60:]), 1):
        file = folder / f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name].contiguous() for name in part}, file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return file


def test_a_missing_projector_is_named_and_counted(folder):
    change_weights(folder, lambda w: {name: t for name, t in w.items() if "projector" not in name})
    text = refused(folder)
    assert "4 weights are missing (model.multi_modal_projector.linear_1.bias" in text
    assert "and 1 more" in text
    assert "download or export the whole model again" in text


def test_one_missing_layer_is_named(folder):
    change_weights(folder, lambda w: {name: t for name, t in w.items() if ".layers.2.mlp.up_proj" not in name})
    assert "1 weight is missing (model.language_model.layers.2.mlp.up_proj.weight)" in refused(folder)


def test_names_of_an_unmerged_adapter_say_merge(folder):
    change_weights(folder, lambda w: {"base_model.model." + name: t for name, t in w.items()})
    text = refused(folder)
    assert "122 weights are unexpected" in text
    assert "merge the adapter" in text


def test_names_of_llavas_own_code_say_which_model_to_take(folder):
    change_weights(
        folder, lambda w: {name.replace("multi_modal_projector", "model.mm_projector"): t for name, t in w.items()}
    )
    assert "take the converted model, such as llava-hf/llava-1.5-7b-hf" in refused(folder)


def test_an_absent_head_that_is_not_the_embedding_is_named(folder):
    change_config(folder, tie_word_embeddings=False, text_config={"tie_word_embeddings": False})
    text = refused(folder)
    assert "1 weight is missing (lm_head.weight)" in text
    assert "tie_word_embeddings" in text


def test_a_weight_too_many_is_named_and_an_old_constant_is_harmless(folder):
    name = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(folder, lambda w: w | {name: torch.ones(16)})
    load(folder)
    change_weights(folder, lambda w: w | {"language_model.model.layers.5.input_layernorm.weight": torch.ones(128)})
    assert "1 weight is unexpected" in refused(folder)


def test_all_harmless_names_pass():
    names = {
        "vision_model.embeddings.position_ids",
        "embeddings.position_ids",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    }
    check_loading_info(TINY, {"missing_keys": [], "unexpected_keys": names, "mismatched_keys": []})
    with pytest.raises(ConfigError, match="1 weight is unexpected"):
        check_loading_info(TINY, {"missing_keys": [], "unexpected_keys": ["my_position_ids"], "mismatched_keys": []})


def test_a_resized_vocabulary_says_the_number_for_config_json(folder):
    name = "language_model.model.embed_tokens.weight"
    change_weights(folder, lambda w: w | {name: torch.cat([w[name], torch.zeros(9, 128)])})
    text = refused(folder)
    assert "320 x 128 in the files, 311 x 128 by config.json" in text
    assert "set vocab_size in config.json (in text_config, too) to 320" in text


def test_tokens_above_the_embedding_are_named(folder):
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    kind = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": 311, "content": "<new>"} | kind)
    file.write_text(json.dumps(tokenizer))
    text = refused(folder)
    assert "1 tokens above the embedding's 311 rows ('<new>' is 311)" in text
    assert "resize_token_embeddings" in text


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_named(folder, value):
    name = "language_model.model.layers.1.mlp.down_proj.weight"
    change_weights(folder, lambda w: w | {name: torch.full_like(w[name], value)})
    text = refused(folder)
    assert "1 of its weights (model.language_model.layers.1.mlp.down_proj.weight)" in text
    assert "export an earlier checkpoint" in text


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_says_git_lfs_pull(folder, name):
    (folder / name).write_text(POINTER)
    text = refused(folder)
    assert name in text
    assert "git lfs pull" in text


def test_split_weights_load_and_each_fault_of_theirs_is_named(folder):
    last = split(folder)
    load(folder)
    whole = last.read_bytes()
    last.write_bytes(whole[:-1000])
    assert f"is truncated: {len(whole) - 1000:,} bytes of {len(whole):,}; download it again" in refused(folder)
    last.write_bytes(whole[:20])
    assert "is truncated: 20 bytes, less than its header alone" in refused(folder)
    last.write_bytes(b"<!DOCTYPE html><html>not found</html>")
    assert "is not a safetensors file" in refused(folder)
    last.write_text(POINTER)
    assert "git lfs pull" in refused(folder)
    last.unlink()
    assert "lacks 1 of its 2 weight files (model-00002-of-00002.safetensors)" in refused(folder)
    (folder / "model.safetensors.index.json").unlink()
    assert "neither model.safetensors nor model.safetensors.index.json" in refused(folder)


def test_weights_as_pytorch_bin_say_how_to_convert(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "convert the model with save_pretrained" in refused(folder)


@pytest.mark.parametrize("settings", [{"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes"}])
def test_a_quantised_model_names_its_method(folder, settings):
    change_config(folder, quantization_config=settings)
    text = refused(folder)
    assert f"quantised weights ({settings['quant_method']}" in text
    assert "before it was quantised" in text


@pytest.mark.parametrize("with_config", [True, False])
def test_an_adapter_names_its_base_and_says_merge(folder, with_config):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    if not with_config:
        (folder / "config.json").unlink()
    text = refused(folder)
    assert "LoRA adapter of owner/base" in text
    assert "merge_and_unload" in text
    (folder / "adapter_config.json").unlink()
    assert "without its adapter_config.json" in refused(folder)


def test_gguf_weights_are_recognised(tmp_path):
    (tmp_path / "model-q4_k.gguf").write_bytes(b"GGUF" + bytes(64))
    assert "GGUF" in refused(tmp_path)


@pytest.mark.parametrize("text", ['{"model_type": "llava", "text_', "", "[1, 2]"])
def test_half_a_config_is_reported_everywhere(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in refused(folder)
    with pytest.raises(ConfigError, match=r"config\.json"):
        model_type(folder)


def test_a_config_without_its_sections_is_not_taken_for_the_7b(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))
    assert "it has no text_config and no vision_config" in refused(folder)


def test_a_value_that_transformers_refuses_is_reported(folder):
    change_config(folder, text_config={"num_hidden_layers": "five"})
    assert "num_hidden_layers" in refused(folder)


def test_other_towers_and_llavas_own_type_are_named(folder):
    change_config(folder, vision_config={"model_type": "dinov2"})
    assert "dinov2; only clip_vision_model and siglip_vision_model work" in refused(folder)
    change_config(folder, model_type="llava_llama")
    assert "such as llava-hf/llava-1.5-7b-hf" in refused(folder)


GIVEN = {
    "no_projector": "4 weights are missing",
    "untied_no_head": "lm_head.weight",
    "peft_prefix": "merge the adapter",
    "resized_vocab": "to 320",
    "bin_only": "convert the model",
    "shard_missing": "lacks 1 of its 2",
    "shard_lfs": "git lfs pull",
    "lfs_pointer": "git lfs pull",
    "adapter_beside_config": "llava-hf/llava-1.5-7b-hf (adapter_config.json)",
    "llava_llama_type": "take the converted model",
    "bnb4": "bitsandbytes",
    "gptq": "gptq",
    "gguf": "GGUF",
    "legacy_keys": None,
    "sharded": None,
    "plain": None,
}


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_file(), reason="the shared cases are not beside this checkout")
@pytest.mark.parametrize(("name", "expected"), GIVEN.items())
def test_given_folders(tmp_path, monkeypatch, name, expected):
    place = tmp_path / "model"
    monkeypatch.setattr(sys, "argv", ["make", name, str(place), str(TINY)])
    runpy.run_path(str(CASES))
    if expected is None:
        load(place)
    else:
        assert expected in refused(place)


BROKEN_WEIGHTS = {
    "no projector": lambda w: {name: t for name, t in w.items() if "projector" not in name},
    "no layer": lambda w: {name: t for name, t in w.items() if ".layers.2.mlp" not in name},
    "PEFT's names": lambda w: {f"base_model.model.{name}": t for name, t in w.items()},
    "other names": lambda w: {name.replace("multi_modal_projector", "mm_projector"): t for name, t in w.items()},
    "resized": lambda w: {n: torch.cat([t, t[:9]]) if "embed_tokens" in n else t for n, t in w.items()},
    "one weight more": lambda w: w | {"language_model.model.layers.9.mlp.up_proj.weight": torch.zeros(2)},
}


def headers_refused(folder):
    """The one line that the headers alone give."""
    family = family_of(folder)
    with pytest.raises(ConfigError) as found:
        check_weight_headers(family.model_class, folder, family.config)
    return str(found.value)


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN_WEIGHTS)
def test_the_headers_alone_give_the_errors_of_loading(folder, broken):
    change_weights(folder, BROKEN_WEIGHTS[broken])
    assert headers_refused(folder) == refused(folder)


def test_an_absent_untied_head_is_found_by_the_headers(folder):
    change_config(folder, tie_word_embeddings=False, text_config={"tie_word_embeddings": False})
    assert "1 weight is missing (lm_head.weight)" in headers_refused(folder)


def legacy_names(weights):
    """Names and buffers of published llava-hf checkpoints, as older transformers wrote them."""
    named = {n.replace("vision_tower.", "vision_tower.vision_model."): t for n, t in weights.items()}
    named["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    for layer in range(5):
        named[f"language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(16)
    return named | {"language_model.lm_head.weight": named["language_model.model.embed_tokens.weight"].clone()}


@pytest.mark.parametrize("in_two_files", [False, True])
def test_the_names_and_buffers_of_published_models_are_accepted(folder, in_two_files):
    change_weights(folder, legacy_names)
    if in_two_files:
        split(folder)
    family = family_of(folder)
    check_weight_headers(family.model_class, folder, family.config)
    load(folder)


def test_a_shard_that_the_index_does_not_list_is_not_counted(folder):
    split(folder)
    save_file({"model.other": torch.zeros(2)}, folder / "model-00003-of-00003.safetensors", metadata={"format": "pt"})
    family = family_of(folder)
    check_weight_headers(family.model_class, folder, family.config)
    load(folder)


def evaluation(model):
    """An evaluation of `model` on the demo world's images."""
    data = DataConfig(sources={"s": SourceConfig(reader="demo")})
    return EvalConfig(name="x", model=str(model), source="s", data=data)


@pytest.mark.parametrize("broken", ["no projector", "resized"])
def test_the_dry_run_of_an_evaluation_refuses_a_broken_folder(folder, broken):
    change_weights(folder, BROKEN_WEIGHTS[broken])
    with pytest.raises(ConfigError, match="does not hold the model"):
        check_model_folder(evaluation(folder))


def test_the_dry_run_of_an_evaluation_accepts_a_whole_folder_and_skips_what_is_not_here(folder, tmp_path):
    assert check_model_folder(evaluation(folder))
    assert not check_model_folder(evaluation(tmp_path / "later"))
    assert not check_model_folder(evaluation("api:gpt"))


def test_the_dry_run_of_a_trained_probe_refuses_a_model_without_one_and_classes_that_it_never_learned(folder, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    protocol = ProtocolConfig(task="trained_probe", classes=str(tmp_path / "classes.txt"))
    asked = replace(evaluation(folder), protocol=protocol)
    with pytest.raises(ConfigError, match="has no linear probe"):
        check_model_folder(asked)
    width = int(family_of(folder).text_config.hidden_size)

    def write(classes, width):
        parts = {"token.vector": (width,), "head.weight": (len(classes), width), "head.bias": (len(classes),)}
        StoredProbe.of({f"{PROBE}.{name}": torch.zeros(size) for name, size in parts.items()}, classes).write(
            folder, {}
        )

    write(["cat", "dog", "bee"], width)
    assert check_model_folder(asked)
    write(["cat", "bee"], width)
    with pytest.raises(ConfigError, match=r"1 of the 2 classes .* trained on: dog; name a list"):
        check_model_folder(asked)
    write(["cat", "dog"], width + 1)
    with pytest.raises(ConfigError, match="export the run again"):
        check_model_folder(asked)


def test_the_dry_run_of_an_evaluation_reads_the_processor_and_the_tokenizer(folder):
    file = folder / "processor_config.json"
    whole = file.read_text()
    file.write_text(whole.replace('"resample": 3', '"resample": "cubic"'))
    with pytest.raises(ConfigError, match="resample is 'cubic'"):
        check_model_folder(evaluation(folder))
    file.write_text(whole)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="tokenizer"):
        check_model_folder(evaluation(folder))


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_of_8_bits_are_refused_and_constants_are_not(folder, kind):
    change_weights(folder, lambda w: w | {"vision_tower.embeddings.position_ids": torch.arange(17)[None]})
    change_weights(folder, lambda w: w | {name: w[name].to(kind) for name in w if "layers.0.self_attn.q_proj" in name})
    found = refused(folder)
    assert "q_proj.weight" in found
    assert "give the folder or hub id of the model before it was quantised" in found
    assert "position_ids" not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"eos', "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"eos_token_id": "</s>"}', "eos_token_id is '</s>', and '</s>' is no token id"),
        ('{"eos_token_id": [2, null]}', "and None is no token id"),
    ],
)
def test_damaged_generation_settings_are_an_error_as_answers_would_end_elsewhere(folder, text, message):
    (folder / "generation_config.json").write_text(text)
    assert message in refused(folder)
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_model_folder(evaluation(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image_token_index": 99999},
            "image_token_index) is 99999, and the embedding has 311 rows",
        ),
        ({"image_token_index": 5}, "is 5, and the tokenizer's <image> is 4"),
        ({"vision_feature_layer": -99}, "whose vision_feature_layer is -99, and its vision tower has"),
        ({"vision_feature_layer": [-2, 40]}, "whose vision_feature_layer is [-2, 40]"),
    ],
)
def test_an_image_token_or_a_layer_that_is_not_there_is_named_before_the_first_question(folder, changes, message):
    change_config(folder, **changes)
    assert message in refused(folder)
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_model_folder(evaluation(folder))


@pytest.mark.parametrize("text", ["[]", '{"mode": "lora"}', '{"mode'])
def test_a_damaged_record_of_an_export_is_named(folder, text):
    (folder / "export.json").write_text(text)
    with pytest.raises(ConfigError, match=r"export\.json"):
        identify_model(str(folder))
    with pytest.raises(ConfigError, match=r"export\.json is damaged"):
        training_record_of_model(str(folder))
