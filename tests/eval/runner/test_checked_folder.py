"""A model folder that passed the check of `--dry-run` is not checked again until something changes."""

import pytest

import eval.models.folder_check
from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from eval.runner.dry_run import model_line


@pytest.fixture
def checks(monkeypatch, tmp_path):
    """The configurations whose folder was really checked."""
    checked = []
    monkeypatch.setattr(eval.models.folder_check, "check_model_folder", lambda config: checked.append(config) or True)
    monkeypatch.setenv("VLM_CLASSIFY_CACHE", str(tmp_path / "cache"))
    return checked


@pytest.fixture
def folder(tmp_path):
    """A folder with two files."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def evaluation(folder, **protocol):
    data = DataConfig(sources={"s": SourceConfig(reader="demo")})
    return EvalConfig(name="e", model=str(folder), source="s", data=data, protocol=ProtocolConfig(**protocol))


def test_an_unchanged_folder_is_checked_once(checks, folder):
    first, second = model_line(evaluation(folder)), model_line(evaluation(folder))
    assert len(checks) == 1
    assert first in second
    assert "unchanged since an earlier check" in second


def test_another_file_another_protocol_or_another_folder_is_checked(checks, folder, tmp_path):
    model_line(evaluation(folder))
    (folder / "model.safetensors").write_bytes(b"other weights")
    model_line(evaluation(folder))
    assert len(checks) == 2
    model_line(evaluation(folder, image_mode="pad"))
    assert len(checks) == 3
    folder.rename(tmp_path / "moved")
    model_line(evaluation(tmp_path / "moved"))
    assert len(checks) == 4


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
