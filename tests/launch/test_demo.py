"""The demo only starts commands: which ones, in which order, and when it stops."""

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import demo
from launch.commands import as_typed
from launch.demo import Demo
from launch.steps import run_step

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


class Ended:
    """A process that has ended with `code`."""

    def __init__(self, code: int) -> None:
        self.code = code

    def wait(self) -> int:
        return self.code


def typed(configs: Path, *, seeds: int = 1, quick: bool = False) -> list[str]:
    names = {"python": "/venv/bin/python", "deepspeed": "/venv/bin/deepspeed"}
    steps = demo.steps(Demo(configs / "demo.yaml", seeds, quick))
    return [as_typed(argv, **names) for step in steps for argv in step]


def test_the_demo_is_these_commands_in_this_order(configs: Path) -> None:
    world, facts = "configs/eval/demo_open_world.yaml", "configs/eval/demo_knowledge.yaml"
    base = "runs/demo_report/base/eval"
    assert typed(configs) == [
        "python -m data_prep.build --config configs/demo.yaml",
        "deepspeed --quiet --num_gpus 2 train/finetune.py --config configs/demo_classification.yaml --resume auto",
        "deepspeed --quiet --num_gpus 2 train/finetune.py --config configs/demo.yaml --resume auto",
        f"python -m eval.run --config {world} --set model=data/tiny_base --set output={base}/demo_open_world",
        f"python -m eval.run --config {facts} --set model=data/tiny_base --set output={base}/demo_knowledge",
        f"python -m eval.run --config {world} --set model=runs/demo_classification",
        f"python -m eval.run --config {facts} --set model=runs/demo_classification",
        f"python -m eval.run --config {world} --set model=runs/demo",
        f"python -m eval.run --config {facts} --set model=runs/demo",
        f"python -m eval.compare --output runs/demo_report base={base} "
        "classification@0=runs/demo_classification/eval mix@0=runs/demo/eval",
    ]


@pytest.mark.slow
def test_every_seed_trains_both_recipes_and_the_comparison_has_the_seeds_of_a_recipe_together(configs: Path) -> None:
    lines = typed(configs, seeds=2)
    assert [line.partition(" train/finetune.py --config ")[2] for line in lines[1:5]] == [
        "configs/demo_classification.yaml --resume auto",
        "configs/demo.yaml --resume auto",
        "configs/demo_classification.yaml --set seed=1 --set name=demo_classification-seed1 --resume auto",
        "configs/demo.yaml --set seed=1 --set name=demo-seed1 --resume auto",
    ]
    assert len(lines) == 1 + 4 + 2 * 5 + 1
    assert lines[-1].split()[6:] == [
        "classification@0=runs/demo_classification/eval",
        "classification@1=runs/demo_classification-seed1/eval",
        "mix@0=runs/demo/eval",
        "mix@1=runs/demo-seed1/eval",
    ]


def test_the_evaluations_of_a_model_run_at_the_same_time_with_one_thread_each(
    configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both_started = threading.Barrier(2, timeout=300)

    def start(argv: list[str], env: dict[str, str], **_: object) -> "subprocess.CompletedProcess[str]":
        both_started.wait()
        return subprocess.CompletedProcess(argv, 0, stdout=f"{argv[-1]} with {env['OMP_NUM_THREADS']} thread\n")

    monkeypatch.setattr(subprocess, "run", start)
    evaluations = next(step for step in demo.steps(Demo(configs / "demo.yaml", 1, quick=False)) if len(step) > 1)
    run_step(evaluations, "demo")
    printed = capsys.readouterr().out.split("$ ")[1:]
    assert [line.split()[2] for line in printed] == ["eval.run", "eval.run"]
    assert all("with 1 thread\n" in line for line in printed)


@pytest.mark.slow
def test_a_quick_demo_is_short_and_leaves_the_real_runs_alone(configs: Path) -> None:
    lines = typed(configs, quick=True)
    assert len(lines) == 10
    assert "--set name=demo-quick --set train.max_steps=4" in lines[2]
    assert all("--set limit=16" in line for line in lines[3:9])
    assert not any("runs/demo " in f"{line} " or "runs/demo/" in line for line in lines)


@pytest.mark.slow
def test_the_demo_stops_at_the_first_failure_with_its_exit_code(
    configs: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    codes = iter([0, 7])
    started: list[list[str]] = []

    def start(argv: list[str]) -> Ended:
        started.append(argv)
        return Ended(next(codes))

    monkeypatch.setattr(subprocess, "Popen", start)
    assert run_main(demo.main) == 7
    assert len(started) == 2
    printed = capsys.readouterr()
    assert "| 0/15 [" in printed.out and "| 1/15 [" in printed.out  # the progress bar
    assert "$ python -m data_prep.build --config configs/demo.yaml\n[" in printed.out
    assert "exit code 7" in printed.err


@pytest.mark.slow
def test_a_command_killed_by_a_signal_ends_the_demo_as_a_shell_would(
    configs: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda argv: Ended(-9))
    assert run_main(demo.main) == 137


@pytest.mark.slow
def test_the_report_is_named_at_the_end(
    configs: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda argv: Ended(0))
    monkeypatch.setattr(subprocess, "run", lambda argv, check, **_: subprocess.CompletedProcess(argv, 0, stdout=""))
    assert run_main(demo.main) == 0
    assert capsys.readouterr().out.endswith("its report is runs/demo_report/report.html\n")


def test_no_seed_is_refused(configs: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(demo.main, "--seeds", "0") == 2
    assert "--seeds is 0; give 1 or more" in capsys.readouterr().err


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
