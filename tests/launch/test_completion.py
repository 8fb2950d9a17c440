"""Shell completion: what is offered for a word, and the scripts for the shells."""

import pytest

from configs.evaluation import EvalConfig
from configs.run import RunConfig
from launch import completion
from launch.completion import candidates, setting_names


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ev"], ["eval"]),
        (["comp"], ["completion"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["eval", "sc"], ["scoreboard"]),
        (["train", "ex"], ["export"]),
        (["train", "--conf"], ["--config"]),
        (["train", "--num"], ["--num_gpus", "--num_nodes"]),
        (["train", "--config", "a.yaml", "--resume", ""], ["auto"]),
        (["eval", "run", "--report"], ["--report-only"]),
        (["eval", "run", "--set", "protocol.tas"], ["protocol.task="]),
        (["train", "--config", "a.yaml", "--set", "optim.lr_proj"], ["optim.lr_projector="]),
        (["train", "--config", "a.yaml", "--set", "data.sou"], ["data.sources."]),
        (["launch", "submit", "--from", "ev"], []),  # its values are named, not written, where the option is
        (["nothing", ""], []),
    ],
)
def test_what_a_word_may_become(words, offered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert candidates(words) == offered


@pytest.mark.parametrize("schema", [RunConfig, EvalConfig])
def test_settings_are_offered_by_the_names_that_set_takes(schema):
    names = setting_names(schema)
    assert len(names) == len(set(names))
    assert "data.shards=" in names


def test_files_are_offered_after_an_option_and_yaml_files_after_config(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    for name in ("a.yaml", "b.txt", "runs/c.yml", ".hidden.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert candidates(["eval", "run", "--config", ""]) == ["runs/", "a.yaml"]
    assert candidates(["eval", "run", "--config", "runs/"]) == ["runs/c.yml"]
    assert candidates(["launch", "watch", ""]) == ["runs/", "a.yaml", "b.txt"]
    assert candidates(["launch", "watch", f"{tmp_path}/b"]) == [f"{tmp_path}/b.txt"]


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_the_script_of_a_shell_asks_this_program(shell, capsys):
    completion.main([shell])
    assert f"vlm-classify {completion.CANDIDATES} " in capsys.readouterr().out


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        completion.main(["tcsh"])
    assert "usage: vlm-classify completion bash|zsh|fish" in capsys.readouterr().err
