"""Recipes: what wins over what, where values are said to come from, what the shipped ones hold."""

from pathlib import Path

import pytest
import yaml

from configs.errors import ConfigError
from configs.load import describe, load_config, to_yaml
from configs.recipe import read_recipe, recipe_names, recipe_record
from configs.run import RunConfig
from eval.paper.audit import AUDIT

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))

BASE = """
recipe: clean
name: run
data:
  sources:
    a: {reader: image_folder, path: x, options: {prompt: "${data.prompt}"}}
    b: {reader: image_folder, path: y}
model: {base: some/model}
optim: {clip_norm: 0.5, lr_projector: 7.0e-3}
train: {sources: [a], heldout: [b], heldout_every: 10}
"""


@pytest.fixture
def base(tmp_path) -> Path:
    file = tmp_path / "base.yaml"
    file.write_text(BASE)
    return file


def loaded(file: Path, *overrides: str) -> RunConfig:
    return load_config(RunConfig, file, overrides)[0]


def error_of(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, file, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_settings_of_the_file_that_names_a_recipe_override_it(base):
    config = loaded(base)
    assert (config.optim.clip_norm, config.train.last_batch) == (0.5, "drop")


def test_a_recipe_replaces_the_one_of_a_base_and_is_laid_over_the_bases_settings(base, tmp_path):
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\nrecipe: paper\ntrain: {global_batch: 32}\n")
    config = loaded(child)
    assert (config.optim.clip_norm, config.optim.lr_projector) == (0.0, 2e-5), "over the base"
    assert config.train.global_batch == 32, "under the file that names it"
    assert config.chat.system_prompt == "none"
    child.write_text("base: base.yaml\nrecipe: null\n")
    assert loaded(child).optim.clip_norm == 0.5


@pytest.mark.slow
def test_a_recipe_on_the_command_line_is_laid_over_the_file_and_under_every_other_set(base):
    assert loaded(base, "recipe=official").optim.clip_norm == 0.0
    for overrides in (["recipe=official", "optim.clip_norm=3"], ["optim.clip_norm=3", "recipe=official"]):
        config = loaded(base, *overrides)
        assert (config.optim.clip_norm, config.optim.lr_projector) == (3.0, 2e-5)
    last = loaded(base, "recipe=official", "recipe=clean")
    assert (last.recipe, last.optim.clip_norm, last.chat.system_prompt) == ("clean", 1.0, "template")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prompt"), [("paper", "paper"), ("official", "authors_training"), ("clean", "paper")])
def test_the_training_question_is_the_recipes(base, name, prompt):
    assert loaded(base, f"recipe={name}").data.sources["a"].options["prompt"] == prompt
    own = loaded(base, f"recipe={name}", "data.sources.a.options.prompt=identify")
    assert own.data.sources["a"].options["prompt"] == "identify"


def test_every_shipped_setting_has_a_source_and_is_a_setting_of_a_run(base):
    assert recipe_names() == ["clean", "official", "paper", "paper_blip2"]
    for name in recipe_names():
        raw = yaml.safe_load((ROOT / "configs" / "recipes" / f"{name}.yaml").read_text())
        settings = read_recipe(name)
        assert {key: setting.value for key, setting in settings.items()} == {k: e["value"] for k, e in raw.items()}
        assert all(len(setting.source) > 10 for setting in settings.values())
        config, origins = load_config(RunConfig, base, [f"recipe={name}"])
        for key, setting in settings.items():
            assert origins[key] == f"recipe {name}: {setting.source}"
        assert recipe_record(config) == {"name": name, "changed": {}}


def test_paper_and_official_do_not_clip_and_clean_clips_at_one():
    assert {name: read_recipe(name)["optim.clip_norm"].value for name in recipe_names()} == {
        "clean": 1.0,
        "official": 0.0,
        "paper": 0.0,
        "paper_blip2": 0.0,
    }


def test_the_record_names_what_differs_from_the_recipe(base):
    assert recipe_record(loaded(base)) == {"name": "clean", "changed": {"optim.clip_norm": 0.5}}
    assert recipe_record(loaded(base, "recipe=null")) is None
    betas = recipe_record(loaded(base, "recipe=paper", "optim.betas=[0.9,0.95]"))
    assert betas == {"name": "paper", "changed": {"optim.betas": [0.9, 0.95]}}


def test_a_saved_config_loads_back_to_the_same_config_for_every_name_in_it(base, tmp_path):
    config = loaded(base, "recipe=official", "optim.clip_norm=2")
    saved = tmp_path / "saved.yaml"
    saved.write_text(to_yaml(config))
    assert loaded(saved) == config


@pytest.mark.slow
@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.name)
def test_every_preset_prints_its_recipe_with_the_source_of_each_setting(file):
    config, origins = load_config(RunConfig, file)
    if not config.evaluate:  # trains nothing
        return
    assert config.recipe in ("paper", "paper_blip2", "clean")
    lines = {line.split(" = ")[0]: line.partition("# ")[2] for line in describe(config, origins).splitlines()}
    for key, setting in read_recipe(config.recipe).items():
        assert lines[key] == f"recipe {config.recipe}: {setting.source}" or lines[key].endswith(".yaml")
    clips = read_recipe(config.recipe)["optim.clip_norm"]
    assert (config.optim.clip_norm, lines["optim.clip_norm"]) == (
        clips.value,
        f"recipe {config.recipe}: {clips.source}",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "choose one of clean, official, paper, paper_blip2, or give a YAML file"),
        ("optim.clip_norm: 0\n", "optim.clip_norm must be of the form {value: 0, source:"),
        ("optim.clip_norm: {value: 0}\n", "must be of the form"),
        ("optim.clip_norm: {value: 0, source: ''}\n", "must be of the form"),
        ("name: {value: x, source: me}\n", "a recipe holds settings of training only"),
        ("optim.clipnorm: {value: 0, source: me}\n", "unknown key 'optim.clipnorm'; did you mean clip_norm?"),
        ("optim.clip_norm: {value: much, source: me}\n", "optim.clip_norm"),
        ("optim.clip_norm: {value: -1, source: me}\n", "it must be at least 0"),
        ("[1, 2]\n", "a config is a mapping"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_one_line_that_names_it(base, tmp_path, text, message):
    file = tmp_path / "own.yaml"
    if text is not None:
        file.write_text(text)
    assert message in error_of(base, f"recipe={file}")
    assert "recipe is 3; choose one of" in error_of(base, "recipe=3")


def test_the_authors_rates_warm_up_and_lora_are_the_papers_as_the_audit_says():
    paper, official = read_recipe("paper"), read_recipe("official")
    same = {"optim.lr_projector": 2e-5, "optim.lr_language": 2e-4, "optim.warmup_ratio": 0.03}
    same |= {"optim.weight_decay": 0.0, "model.lora.rank": 128, "model.lora.alpha": 256}
    assert {key: paper[key].value for key in same} == {key: official[key].value for key in same} == same
    (difference,) = [found for found in AUDIT if found.number == "D15"]
    assert not set(difference.settings) & set(same)
