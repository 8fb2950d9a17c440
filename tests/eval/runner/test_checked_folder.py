"""A model folder that passed the check of `--dry-run` or was just exported is not checked until something changes."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

import eval.models.folder_check
from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from eval.runner.dry_run import model_line
from train.models.folder_contents import contents


@pytest.fixture
def checks(monkeypatch, tmp_path):
    """The configurations whose folder was really checked."""
    checked = []
    monkeypatch.setattr(eval.models.folder_check, "check_model_folder", lambda config: checked.append(config) or True)
    monkeypatch.setenv("VLM_CLASSIFY_CACHE", str(tmp_path / "cache"))
    return checked


@pytest.fixture
def folder(tmp_path):
    """A folder with a config and one weight."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    save_file({"projector": np.zeros((2, 3))}, made / "model.safetensors")
    return made


def evaluation(folder, **protocol):
    data = DataConfig(sources={"s": SourceConfig(reader="demo")})
    return EvalConfig(name="e", model=str(folder), source="s", data=data, protocol=ProtocolConfig(**protocol))


def test_an_unchanged_folder_is_checked_once_and_so_is_its_copy(checks, folder, tmp_path):
    first, second = model_line(evaluation(folder)), model_line(evaluation(folder))
    assert len(checks) == 1
    assert first in second
    assert "unchanged since" in second
    shutil.copytree(folder, tmp_path / "copy")
    model_line(evaluation(tmp_path / "copy"))
    assert len(checks) == 1


def test_other_shapes_other_settings_of_the_model_or_another_tokenizer_are_checked(checks, folder):
    model_line(evaluation(folder))
    save_file({"projector": np.zeros((2, 4))}, folder / "model.safetensors")
    model_line(evaluation(folder))
    assert len(checks) == 2
    (folder / "config.json").write_text('{"image_token_index": 3}')
    model_line(evaluation(folder))
    assert len(checks) == 3
    (folder / "qformer_tokenizer").mkdir()
    (folder / "qformer_tokenizer" / "vocab.txt").write_text("a")
    model_line(evaluation(folder))
    assert len(checks) == 4


def test_only_a_protocol_that_loads_or_asks_the_model_in_another_way_is_checked(checks, folder):
    model_line(evaluation(folder))
    model_line(evaluation(folder, task="closed_world", classes="cifar10", max_new_tokens=7))
    assert len(checks) == 1
    model_line(evaluation(folder, image_mode="pad"))
    assert len(checks) == 2
    model_line(evaluation(folder, task="trained_probe", classes="cifar10"))
    assert len(checks) == 3


def test_a_damaged_weight_file_is_an_error_also_after_a_check(checks, folder):
    model_line(evaluation(folder))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ConfigError, match="truncated"):
        model_line(evaluation(folder))


def test_an_export_is_not_checked_until_it_is_changed_or_asked_otherwise_than_in_training(checks, folder):
    record = {
        "chat": {"template": "llava", "system_prompt": "vicuna_v1"},
        "image_mode": "pad",
        "questions": {},
        "mode": "projector",
        "base": "b",
        "sources": [],
        "data": {"shards": "data/shards"},
        "contents": contents(folder),
    }
    (folder / "export.json").write_text(json.dumps(record))
    assert "unchanged since" in model_line(evaluation(folder))
    assert "unchanged since" in model_line(evaluation(folder, prompt="Which animal is it?"))
    assert not checks
    model_line(evaluation(folder, system_prompt="none"))
    model_line(evaluation(folder, task="trained_probe", classes="cifar10"))
    assert len(checks) == 2
    save_file({"renamed": np.zeros((2, 3))}, folder / "model.safetensors")
    model_line(evaluation(folder))
    assert len(checks) == 3


def test_a_folder_that_failed_is_checked_again(checks, folder, monkeypatch):
    def refuse(config):
        checks.append(config)
        raise ConfigError("weights are missing")

    monkeypatch.setattr(eval.models.folder_check, "check_model_folder", refuse)
    for _ in range(2):
        with pytest.raises(ConfigError, match="weights are missing"):
            model_line(evaluation(folder))
    assert len(checks) == 2


def test_a_cache_that_cannot_be_written_only_costs_the_check(checks, folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLM_CLASSIFY_CACHE", str(tmp_path / "file" / "cache"))
    assert "unchanged" not in model_line(evaluation(folder)) + model_line(evaluation(folder))
    assert len(checks) == 2
