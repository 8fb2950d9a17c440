"""The demo only starts commands: which ones, in which order, and when it stops."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import demo
from launch.commands import as_typed
from launch.demo import Demo

RUN = """
name: {name}
data: {{shards: shards, sources: {{toy: {{reader: toy_world}}}}}}
model: {{base: data/tiny_base}}
train: {{sources: [toy]}}
"""
EVALUATION = """
name: {name}
data: {{shards: shards, sources: {{toy: {{reader: toy_world}}}}}}
source: toy
"""


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/finetune.py").touch()
    (tmp_path / "configs/eval").mkdir(parents=True)
    for name in ("demo", "demo_classification"):
        (tmp_path / f"configs/{name}.yaml").write_text(RUN.format(name=name))
    for name in ("demo_open_world", "demo_knowledge"):
        (tmp_path / f"configs/eval/{name}.yaml").write_text(EVALUATION.format(name=name))
    monkeypatch.setattr("launch.demo.sys.executable", "/venv/bin/python")
    return Path("configs")


def typed(configs: Path, *, quick: bool = False) -> list[str]:
    names = {"python": "/venv/bin/python", "deepspeed": "/venv/bin/deepspeed"}
    return [as_typed(argv, **names) for argv in demo.steps(Demo(configs / "demo.yaml", quick))]


def test_the_demo_is_these_commands_in_this_order(configs: Path) -> None:
    world, facts = "configs/eval/demo_open_world.yaml", "configs/eval/demo_knowledge.yaml"
    base = "runs/demo_report/base/eval"
    assert typed(configs) == [
        "python -m data_prep.build --config configs/demo.yaml",
        "deepspeed --num_gpus 2 train/finetune.py --config configs/demo_classification.yaml --resume auto",
        "deepspeed --num_gpus 2 train/finetune.py --config configs/demo.yaml --resume auto",
        f"python -m eval.run --config {world} --set model=data/tiny_base --set output={base}/demo_open_world",
        f"python -m eval.run --config {facts} --set model=data/tiny_base --set output={base}/demo_knowledge",
        f"python -m eval.run --config {world} --set model=runs/demo_classification",
        f"python -m eval.run --config {facts} --set model=runs/demo_classification",
        f"python -m eval.run --config {world} --set model=runs/demo",
        f"python -m eval.run --config {facts} --set model=runs/demo",
        f"python -m eval.compare --output runs/demo_report base={base} "
        "classification=runs/demo_classification/eval mix=runs/demo/eval",
    ]


def test_a_quick_demo_is_short_and_leaves_the_real_runs_alone(configs: Path) -> None:
    lines = typed(configs, quick=True)
    assert len(lines) == 10
    assert "--set name=demo-quick --set train.max_steps=4" in lines[2]
    assert all("--set limit=16" in line for line in lines[3:9])
    assert not any("runs/demo " in f"{line} " or "runs/demo/" in line for line in lines)


def test_the_demo_stops_at_the_first_failure_with_its_exit_code(
    configs: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    codes = iter([0, 7])
    started: list[list[str]] = []

    def start(argv: list[str], check: bool) -> "subprocess.CompletedProcess[bytes]":
        started.append(argv)
        return subprocess.CompletedProcess(argv, next(codes))

    monkeypatch.setattr(subprocess, "run", start)
    assert run_main(demo.main) == 7
    assert len(started) == 2
    printed = capsys.readouterr()
    assert "$ python -m data_prep.build --config configs/demo.yaml\n[" in printed.out
    assert "exit code 7" in printed.err


def test_a_command_killed_by_a_signal_ends_the_demo_as_a_shell_would(
    configs: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int]
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda argv, check: subprocess.CompletedProcess(argv, -9))
    assert run_main(demo.main) == 137


def test_the_report_is_named_at_the_end(
    configs: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda argv, check: subprocess.CompletedProcess(argv, 0))
    assert run_main(demo.main) == 0
    assert capsys.readouterr().out.endswith("its report is runs/demo_report/report.html\n")


def test_a_missing_config_is_one_line(
    configs: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(demo.main, "--config", "configs/dmo.yaml") == 2
    assert "did you mean demo.yaml" in capsys.readouterr().err


def test_the_demo_runs_in_the_root_folder_only(
    configs: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("train/finetune.py").unlink()
    assert run_main(demo.main) == 2
    assert "root folder of the repository" in capsys.readouterr().err
